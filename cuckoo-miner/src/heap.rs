//! What becomes of memory that models have freed.
//!
//! Every layer makes a tensor and frees another. glibc hands the larger ones back to the system at once, which has to clear
//! each of their pages for the next layer: of a UNet's step that was a seventh.

use std::sync::Once;

/// Lets this process keep memory that models have freed, for what they ask for next. What a program that runs models on the
/// processor calls as it starts; `cuckoo-miner` does. Once is enough.
///
/// Of blocks of up to 32 MiB, 256 MiB stay, and up to 64 MiB more for each thread; what a model leaves that
/// [`WarmPool`](crate::WarmPool) unloads is handed back. It comes before what the environment says of glibc's
/// (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`). With libraries other than glibc, nothing changes.
pub fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(system::keep_freed_memory);
}

/// Hands all that is free back to the system: a millisecond or so, and a tenth of a second for gigabytes.
pub(crate) fn give_back() {
    system::give_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "calls of the C library with plain numbers: one sets words that are read whole, the other takes the locks it needs"
)]
mod system {
    /// The largest block that glibc lets be kept.
    const LARGEST: libc::c_int = 32 << 20;
    /// Bytes of free memory from which some goes back.
    const KEPT: libc::c_int = 256 << 20;

    pub(super) fn keep_freed_memory() {
        // SAFETY: see above. What is refused stays as it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }

    pub(super) fn give_back() {
        // SAFETY: see above.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    pub(super) fn keep_freed_memory() {}

    pub(super) fn give_back() {}
}
