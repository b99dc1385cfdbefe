// SPDX-License-Identifier: GPL-2.0-only

//! Synchronisation.

pub mod atomic;
