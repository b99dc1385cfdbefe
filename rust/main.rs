// SPDX-License-Identifier: GPL-2.0-only

//! Private anonymous memory with a reverse map, and its memory failures.
//!
//! The module owns the memory of processes that map `/dev/anon_rmap`, finds every mapping of a page
//! through interval trees, and uses that to handle memory failures.
//!
//! What is where, in layers, the lowest first. A file uses what is in its own layer or in a lower one; what it has to
//! call upwards it is given: as an argument, or when the module is loaded. `qemu/layers` checks that by this list.
//!
//! 1. [`contract`]: what is taken for granted of core mm; [`helpers`], what is not in Rust, and [`operations`], the tables
//!    that C calls; [`errno`], error codes; [`loading`], what is set up once. [`page`]: page frames and pages. [`process`]: how processes are named;
//!    [`vm_fault`]: page faults; [`wait`]: those that wait; [`commit_charge`]: what the system promises; [`stats`], the counters.
//!    [`gfp`]: allocation flags; [`slab_cache`]: where small objects come from; [`inline_vec`], where few are; [`work_queue`], what is done later;
//!    [`word_mutex`], a lock in one word. [`index`]: positions of pages, in an [`interval_tree`] or a [`radix_tree`].
//! 2. [`failure`]: what a failure is. [`poisoned`]: the pages that have failed.
//! 3. [`pool`]: where pages come from, which page frames are ours, and which are out of use.
//! 4. [`anon_vma`]: where an anon may be mapped. An interval tree of the VMAs as the rmap knows them, with the file behind a
//!    mapping, and all VMAs that come from it.
//! 5. [`anon`]: a page with its state, how it is shared, copied and moved to another frame.
//! 6. [`amap`]: which anon a mapping holds at each index.
//! 7. [`vma`]: what core mm calls, and what becomes of it: faults, splits, fork, mremap.
//! 8. [`rmap`], the walks; [`spot`]: a page named by its address. [`detached`]: one that is mapped nowhere for a moment, and
//!    [`map_again`].
//! 9. [`memory_failure`]: poisoning and what follows. [`merge`]: pages with the same content share a frame.
//! 10. [`verify`], a check of all that; [`device`] and [`debugfs`]: the user's side of it.
//!
//! Only files of `vma` use each other.
//!
//! Lock order, outermost first:
//!
//! ```text
//! mmap lock, VMA lock              (core mm)
//!   walks of a family              (anon_vma::family)
//!   commit charge of a family      (anon_vma::family)
//!     i_mmap                       (core mm)
//!       VMAs of an mm              (vma::mm_state)
//!         amap                     (amap::Slots)
//!           clearings              (vma::clearings)
//!           anon                   (anon)
//!             frame of several anons (anon::content)
//!             anon_vma             (anon_vma::AnonVma)
//!               surplus of an mm       (anon_vma::rmap_mm)
//!             page table lock      (core mm)
//!             poisoned pages       (poisoned)
//!             frames               (pool::frame)
//!             list of such frames  (anon::content)
//!               anons in one           (anon::content)
//!               list of bad frames     (pool::quarantine)
//!             noted failures           (memory_failure::queue)
//!             journal                  (memory_failure::journal)
//! ```
//!
//! The mmu notifier takes the lock of the mm's VMAs and the amap's, and can be called from
//! reclaim: so nothing is allocated under any of these locks in a way that could reclaim, and nothing
//! is zapped under them but what comes before. Two amaps, or two anons, are never locked at the same time.
//!
//! The scanner's lock, and that of who chooses what it does (merge), come before all.
//!
//! Memory failures take no mmap lock, see [`rmap`].

use core::borrow::Borrow;
use kernel::{
    miscdevice::MiscDeviceRegistration,
    prelude::*, //
};

mod amap;
mod anon;
mod anon_vma;
mod commit_charge;
mod contract;
mod debugfs;
mod detached;
mod device;
mod errno;
mod failure;
mod gfp;
mod helpers;
mod index;
mod inline_vec;
pub mod interval_tree;
mod loading;
mod map_again;
mod memory_failure;
mod merge;
mod operations;
mod page;
mod poisoned;
mod pool;
mod process;
mod radix_tree;
mod rmap;
mod slab_cache;
mod spot;
mod stats;
mod verify;
mod vm_fault;
mod vma;
mod wait;
mod word_mutex;
mod work_queue;

use loading::Loading;
#[cfg(not(CONFIG_X86))]
use memory_failure::ghes::Reports as HardwareFailures;
#[cfg(CONFIG_X86)]
use memory_failure::machine_check::MachineCheck as HardwareFailures;
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

/// A parameter, of which Linux 7.2 gives a reference.
fn parameter(value: impl Borrow<u64>) -> u64 {
    *value.borrow()
}

#[pin_data(PinnedDrop)]
struct AnonRmap {
    #[pin]
    device: MiscDeviceRegistration<device::Device>,
    debugfs: debugfs::Files,
    merging: merge::Merging,
    #[pin]
    hardware: HardwareFailures,
    watch: memory_failure::kernel_event::Watch,
    failures: memory_failure::queue::Queue,
    quarantine: pool::quarantine::Quarantine,
    journal: memory_failure::journal::Journal,
    device_memory: Option<Pin<KBox<DeviceMemory>>>,
    // Go last.
    anons: anon::AnonCache,
    nodes: radix_tree::NodeCache,
}

impl kernel::InPlaceModule for AnonRmap {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: The module is loaded once. Of what leads to uses only the pool's handler is registered before all is set up, and as
        // long as there are no pages that uses nothing that is set up later. The fields are dropped in the reverse order, when the
        // last mapping, and with it the last page, has gone.
        let mut loading = unsafe { Loading::begin() };
        failure::set_handler(memory_failure::queue::note_frame);
        try_pin_init!(Self {
            _: {
                pool::frame::init(&mut loading)?;
                vma::mm_state::init(&mut loading)?;
                poisoned::init(&mut loading)?;
                debugfs::init(&mut loading)?;
                anon::content::init(&mut loading)?;
                wait::init(&mut loading);
            },
            nodes: radix_tree::NodeCache::new(&mut loading)?,
            anons: anon::AnonCache::new(&mut loading)?,
            device_memory: DeviceMemory::new(
                parameter(module_parameters::pool_start.value()),
                parameter(module_parameters::pool_size.value()),
                memory_failure::device_memory::memory_failure,
                &mut loading,
            )?,
            journal: memory_failure::journal::Journal::new(&mut loading)?,
            quarantine: pool::quarantine::Quarantine::new(&mut loading)?,
            failures: memory_failure::queue::Queue::new(&mut loading)?,
            watch: memory_failure::kernel_event::Watch::new(&mut loading)?,
            hardware <- HardwareFailures::new(),
            merging: merge::Merging::new(&mut loading)?,
            device <- MiscDeviceRegistration::register(device::OPTIONS),
            // Goes last: whoever opens a file relies on it that the module stays loaded.
            debugfs: debugfs::create(),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for AnonRmap {
    fn drop(self: Pin<&mut Self>) {
        // Nothing is mapped any more.
        vma::notifier::end_all();
    }
}
