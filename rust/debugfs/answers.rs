// SPDX-License-Identifier: GPL-2.0-only

//! Files to which a question is written, and which then have the answer.

use super::{
    file::Command,
    seq_file::Listing, //
};
use core::{
    marker::PhantomData,
    mem,
    ops::DerefMut, //
};
use kernel::{
    fmt,
    prelude::*,
    rbtree::RBTree,
    sync::{
        Arc,
        UniqueArc, //
    }, //
};

/// Something that is asked for by a write, and answered by lines.
pub(super) trait Question: Sized + 'static {
    /// What the lines are in the order of.
    type Key: Clone + Ord + Send + Sync;

    /// What else a line tells.
    type Value: Clone + Send + Sync;

    /// The lines that answer `question`. What is asked for has been done then: no error may follow.
    fn answer(question: &[u8]) -> Result<Answer<Self>>;

    /// Locks the last answer of all, none at first.
    fn last() -> impl DerefMut<Target = LastAnswer<Self>>;

    /// Writes a line with its end.
    fn show(key: &Self::Key, value: &Self::Value, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// The lines of an answer: in a tree, so that many of them need no memory in one piece.
pub(super) type Answer<Q> = RBTree<<Q as Question>::Key, <Q as Question>::Value>;

/// The last answer, shared with those who are reading it.
pub(super) type LastAnswer<Q> = Option<Arc<Answer<Q>>>;

/// Forgets the last answer.
pub(super) fn forget<Q: Question>() {
    let old = Q::last().take();
    drop(old);
}

/// The file of a question: a reader gets the answer to the last one of all that were answered when the reader began.
pub(super) struct Answers<Q>(PhantomData<fn(Q)>);

impl<Q: Question> Command for Answers<Q> {
    fn run(text: &[u8]) -> Result {
        let place = UniqueArc::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let answer = place.write(Q::answer(text)?);
        let old = mem::replace(&mut *Q::last(), Some(answer.into()));
        drop(old);
        Ok(())
    }
}

impl<Q: Question> Listing for Answers<Q> {
    /// The answer that is being read, and the key of the last line.
    type Cursor = Option<(Arc<Answer<Q>>, Q::Key)>;

    type Line = (Q::Key, Q::Value);

    fn next(cursor: &Self::Cursor) -> Option<(Self::Cursor, Self::Line)> {
        let answer = match cursor {
            Some((answer, _)) => answer.clone(),
            None => Q::last().clone()?,
        };
        let owned = |(key, value): (&Q::Key, &Q::Value)| (key.clone(), value.clone());
        let (key, value) = match cursor {
            Some((_, last)) => owned(answer.cursor_lower_bound(last)?.peek_next()?),
            None => owned(answer.iter().next()?),
        };
        Some((Some((answer, key.clone())), (key, value)))
    }

    fn show((key, value): &Self::Line, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Q::show(key, value, f)
    }
}
