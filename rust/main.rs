// SPDX-License-Identifier: GPL-2.0-only

//! Private anonymous memory with a reverse map, and its memory failures.
//!
//! The module owns the memory of processes that map `/dev/anon_rmap`, finds every mapping of a page
//! through interval trees, and uses that to handle memory failures.
//!
//! What is where:
//!
//! * [`contract`]: what is taken for granted of core mm.
//! * [`device`], [`vm_ops`], [`notifier`]: what core mm calls.
//! * [`vma`], [`address_space`], [`fault`], [`wait`], [`zap`]: what becomes of it. [`family`]: the file behind a mapping, and
//!   all VMAs that come from it. [`commit_charge`]: what the system promises by it.
//! * [`amap`] (which [`anon`] a mapping holds at each [`index`]), a [`radix_tree`].
//! * [`anon_vma`] (where an anon may be mapped), an [`interval_tree`] of the VMAs as the rmap knows them ([`rmap_vma`]);
//!   [`rmap`], the walks; [`verify`], a check of all that.
//! * [`pool`]: where pages come from; [`frame`]: which page frames are ours; [`quarantine`]: which are out of use.
//! * [`memory_failure`]: poisoning and what follows; [`spot`]: a page named by its address; [`debugfs`], [`stats`]: the user's
//!   side of it.
//!
//! Lock order, outermost first:
//!
//! ```text
//! mmap lock, VMA lock              (core mm)
//!   walks of a family              (family::Family)
//!   commit charge of a family      (family::Family)
//!     i_mmap                       (core mm)
//!       address space              (address_space::Vmas)
//!         amap                     (amap::Slots)
//!           clearings              (address_space::Clearings)
//!           anon                   (anon::Content)
//!             anon_vma             (anon_vma::AnonVma)
//!             page table lock      (core mm)
//!             poisoned pages       (memory_failure::registry)
//!             frames               (frame)
//!             noted failures           (memory_failure::queue)
//!             journal                  (memory_failure::journal)
//! ```
//!
//! The mmu notifier takes the lock of the address space and the amap's, and can be called from
//! reclaim: so nothing is allocated under any of these locks in a way that could reclaim, and nothing
//! is zapped under them but what comes before. Two amaps, or two anons, are never locked at the same time.
//!
//! Memory failures take no mmap lock, see [`rmap`].

use kernel::{
    bindings,
    miscdevice::MiscDeviceRegistration,
    prelude::*, //
};

mod address_space;
mod amap;
mod anon;
mod anon_vma;
mod commit_charge;
mod contract;
mod debugfs;
mod device;
mod family;
mod fault;
mod frame;
mod helpers;
mod index;
pub mod interval_tree;
mod memory_failure;
mod notifier;
mod pool;
mod process;
mod quarantine;
mod radix_tree;
mod rmap;
mod rmap_vma;
mod spot;
mod stats;
mod verify;
mod vm_ops;
mod vma;
mod wait;
mod zap;

use pool::device_memory::DeviceMemory;

module! {
    type: AnonRmap,
    name: "anon_rmap",
    authors: ["The anon_rmap authors"],
    description: "Anonymous memory with a reverse map and memory failures",
    license: "GPL",
    params: {
        pool_start: u64 {
            default: 0,
            description: "Physical address of reserved memory to take all pages from",
        },
        pool_size: u64 {
            default: 0,
            description: "Size in bytes of that memory; 0 to take pages from system RAM",
        },
    },
}

/// `MODULE_VERSION()`, for which [`module!`] has no field; `CHANGELOG.md` says what came with it.
#[used]
#[link_section = ".modinfo"]
static MODULE_VERSION: [u8; 14] = *b"version=0.1.0\0";

#[pin_data(PinnedDrop)]
struct AnonRmap {
    #[pin]
    device: MiscDeviceRegistration<device::Device>,
    debugfs: debugfs::Files,
    #[pin]
    machine_check: memory_failure::machine_check::MachineCheck,
    watch: memory_failure::kernel_event::Watch,
    failures: memory_failure::queue::Queue,
    quarantine: quarantine::Quarantine,
    journal: memory_failure::journal::Journal,
    device_memory: Option<Pin<KBox<DeviceMemory>>>,
    // Goes last.
    nodes: radix_tree::NodeCache,
}

impl kernel::InPlaceModule for AnonRmap {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: The module is initialised once, and nothing that uses these is registered yet.
        unsafe {
            frame::init();
            address_space::init();
            memory_failure::registry::init();
            debugfs::init();
            wait::init();
        }
        try_pin_init!(Self {
            // SAFETY: There is one module, and it is not unloaded before the last mapping has gone.
            nodes: unsafe { radix_tree::NodeCache::new() }?,
            // SAFETY: As above.
            device_memory: unsafe {
                DeviceMemory::new(
                    module_parameters::pool_start.value(),
                    module_parameters::pool_size.value(),
                )
            }?,
            // SAFETY: There is one module, and nothing has a page that could fail yet; all that has is dropped before.
            journal: unsafe { memory_failure::journal::Journal::new() }?,
            // SAFETY: There is one module, and nothing has a page yet; all that has is dropped before.
            quarantine: unsafe { quarantine::Quarantine::new() }?,
            // SAFETY: There is one module. What notes failures is registered below, and unregistered before
            // this is dropped.
            failures: unsafe { memory_failure::queue::Queue::new() }?,
            // SAFETY: The queue is there, and dropped later.
            watch: unsafe { memory_failure::kernel_event::Watch::new() },
            machine_check <- memory_failure::machine_check::MachineCheck::new(),
            device <- MiscDeviceRegistration::register(device::OPTIONS),
            // Goes last: whoever opens a file relies on it that the module stays loaded.
            debugfs: debugfs::create(),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for AnonRmap {
    fn drop(self: Pin<&mut Self>) {
        // Nothing is mapped any more, but core mm frees subscriptions later.
        // SAFETY: May be called from where a module is unloaded.
        unsafe { bindings::mmu_notifier_synchronize() };
    }
}
