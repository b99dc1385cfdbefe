// SPDX-License-Identifier: GPL-2.0-only

//! Anons whose pages have the same content share a frame.
//!
//! Each keeps its index and its anon_vma, so where it is mapped is found by a walk for that index. What they have in common
//! is with the frame: the page, whether it has failed or is moving, and which anons they are. [`Anon::lock`] locks that, for
//! each of them.
//!
//! Nobody writes to such a page: it is mapped read-only, and who writes gets a copy, as of any page that is shared. An anon joins
//! when nobody can write to its page, see [`Migration`], and under the lock of the frame, by which failures are marked: so whoever
//! has marked one, and then goes through the anons, has found all.

use super::{
    content::{
        Content,
        Key,
        ListedReservation,
        MemberReservation,
        Merged,
        Rank, //
    },
    copy::copy_page,
    member_from,
    merged_owner,
    migration::{
        adopt,
        Migration, //
    },
    owner_of,
    Anon, //
};
use crate::{
    errno::EHWPOISON,
    failure::{
        self,
        Source, //
    },
    page::OwnedPage,
    pool::frame,
    stats,
    wait::wake, //
};
use core::{
    convert::Infallible,
    mem::{
        self,
        MaybeUninit, //
    },
    ptr, //
};
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        UniqueArc, //
    }, //
};

/// An anon in the first frame from `from` on, and where that is. Does not sleep.
pub(crate) fn first_from(from: Rank) -> Option<(Rank, ARef<Anon>)> {
    Merged::first_from(from, |rank, merged| Some((rank, member_from(merged, 0)?)))
}

/// An anon in a frame with the key of `from`, from there on, in which there are fewer than `below`, and where that is. Of many such frames some
/// are looked at. Does not sleep.
pub(crate) fn find(from: Rank, below: usize) -> Option<(Rank, ARef<Anon>)> {
    Merged::find(from, below, |rank, merged| {
        Some((rank, member_from(merged, 0)?))
    })
}

/// What an anon needs to join others.
pub(crate) struct JoinReservation(MemberReservation);

impl JoinReservation {
    /// [`ENOMEM`].
    pub(crate) fn new(flags: Flags) -> Result<Self> {
        Ok(Self(MemberReservation::new(flags)?))
    }
}

/// What an anon needs to be the first one in a frame.
pub(crate) struct FoundReservation {
    merged: UniqueArc<MaybeUninit<Merged>>,
    listed: ListedReservation,
    member: MemberReservation,
}

impl FoundReservation {
    /// [`ENOMEM`].
    pub(crate) fn new(flags: Flags) -> Result<Self> {
        Ok(Self {
            merged: UniqueArc::new_uninit(flags)?,
            listed: ListedReservation::new(flags)?,
            member: MemberReservation::new(flags)?,
        })
    }
}

impl Anon {
    /// What the anon has in common with others, if it has joined them.
    fn merged(&self) -> Option<Arc<Merged>> {
        self.content.lock().merged().map(Arc::from)
    }

    /// Whether the anon has joined others.
    pub(crate) fn is_merged(&self) -> bool {
        self.content.lock().merged().is_some()
    }

    /// Calls `f` for each anon in the frame of this one, which is one of them. Of those that join or leave meanwhile some are missed: none
    /// can, if the page has failed.
    ///
    /// # Errors
    ///
    /// What `f` returns.
    pub(crate) fn each_in_frame(&self, mut f: impl FnMut(&Self) -> Result) -> Result {
        let Some(merged) = self.merged() else {
            return f(self);
        };
        let mut from = 0;
        while let Some(member) = member_from(&merged, from) {
            from = address(&member) + 1;
            f(&member)?;
        }
        Ok(())
    }
}

/// [`EBUSY`] unless the page is that of one anon only, and nobody can change it.
fn check(own: &Content) -> Result {
    match own.merged() {
        Some(_) => Err(EBUSY),
        None => own.check_unused(),
    }
}

/// By what an anon is known as one of several.
fn address(anon: &Anon) -> usize {
    ptr::from_ref(anon) as usize
}

impl Migration<'_> {
    /// Whether both pages, which are mapped nowhere, have the same content.
    pub(crate) fn is_equal(&self, other: &Self) -> bool {
        let page = |migration: &Self| ptr::from_ref(migration.anon().lock().page());
        let (page, other) = (page(self), page(other));
        // SAFETY: Nobody replaces a page that is tagged as migrating, and it stays as long as the anon does, which joins and leaves nobody
        // then.
        unsafe { (*page).is_equal(&*other) }
    }

    /// Whether the page, which is mapped nowhere, has zeroes only, and nobody can change that.
    pub(crate) fn is_zeroes(&self) -> bool {
        let content = self.anon().lock();
        content.check_unused().is_ok() && content.page().is_zeroes()
    }

    /// Makes the anon the first one in a frame with this `key`: others can join it from now on. The page, which is mapped nowhere, stays in
    /// its frame.
    ///
    /// # Errors
    ///
    /// [`EBUSY`]: the page is in use, or has failed, or is that of others, too.
    pub(crate) fn found(self, key: Key, reservation: FoundReservation) -> Result {
        let anon = self.anon();
        {
            let mut own = anon.content.lock();
            check(&own)?;
            let new = Merged::new(own.take_as_shared(), key);
            let Ok(merged) = reservation.merged.pin_init_with::<Infallible>(new);
            let merged = Arc::from(merged);
            // There is room: nobody has joined yet. Nothing may fail here, as `own` has no page.
            let _ = merged.add(address(anon), usize::MAX, reservation.member);
            // SAFETY: The page is that of `merged`, which forgets it when its last reference goes.
            unsafe { frame::remember(merged.lock().page(), merged_owner(&merged)) };
            merged.list(reservation.listed);
            stats::PAGES_SHARED.inc();
            own.join(merged);
            anon.scanned.note_merge();
            wake(&*own);
        }
        self.has_ended();
        Ok(())
    }

    /// Lets the anon join `other` and those that it has joined, if the contents are the same, and these are fewer than `most`. The page of its
    /// own, which is mapped nowhere, is given back.
    ///
    /// # Errors
    ///
    /// * [`EBUSY`]: the page is in use, or has failed, or is that of others, too; or that of `other` is moving, or has failed in a drill, or is
    ///   its own.
    /// * [`EHWPOISON`]: that of `other` has failed for good.
    /// * [`EMLINK`]: there are too many.
    /// * [`EINVAL`]: the contents differ.
    pub(crate) fn join(self, other: &Anon, most: usize, reservation: JoinReservation) -> Result {
        let anon = self.anon();
        let merged = other.merged().ok_or(EBUSY)?;
        let old = {
            let mut own = anon.content.lock();
            check(&own)?;
            let mut common = merged.lock();
            if common.has_failed_for_good() {
                return Err(EHWPOISON);
            }
            if !common.may_be_copied() || common.is_migrating() {
                return Err(EBUSY);
            }
            // Who writes gets a copy.
            if !own.page().is_equal(common.page()) {
                return Err(EINVAL);
            }
            merged.add(address(anon), most, reservation.0)?;
            if own.is_soft_dirty() {
                common.set_soft_dirty();
            }
            drop(common);
            let old = own.take_as_shared();
            frame::forget(old.page());
            own.join(merged);
            anon.scanned.note_merge();
            wake(&*own);
            old
        };
        // It may have to be put out of use.
        drop(old);
        self.has_ended();
        stats::PAGES_MERGED.inc();
        Ok(())
    }

    /// Moves the anon, which has joined others, to the page `to`, with a copy of the content. It must be mapped nowhere; the others stay.
    ///
    /// # Errors
    ///
    /// As for [`Self::move_to`], and [`EINVAL`] if the anon has joined nobody.
    pub(crate) fn leave(self, to: OwnedPage) -> Result<(), (Error, Option<OwnedPage>)> {
        let anon = self.anon();
        let Some(merged) = anon.merged() else {
            return Err((EINVAL, Some(to)));
        };
        let (_old, _node);
        {
            let mut own = anon.content.lock();
            let mut common = merged.lock();
            if !common.may_be_copied() {
                return Err((EHWPOISON, Some(to)));
            }
            if let Err(error) = copy_page(&to, common.page()) {
                let pfn = common.pfn();
                drop((common, own));
                failure::report(pfn, Source::Copy);
                return Err((error, Some(to)));
            }
            // SAFETY: The anon has the page from here on, and forgets it when its last reference goes.
            let to = unsafe { adopt(to, owner_of(anon)) }?;
            let is_soft_dirty = common.is_soft_dirty();
            common.set_migrating(false);
            wake(&*common);
            drop(common);
            _old = mem::replace(&mut *own, Content::new(to));
            if is_soft_dirty {
                own.set_soft_dirty();
            }
            _node = merged.remove(address(anon));
        }
        self.has_ended();
        Ok(())
    }
}
