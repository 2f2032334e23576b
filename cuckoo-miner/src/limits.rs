//! What executors' limits may be set to.

use cuckoo_core::{Error, Result};

/// Checks settings, each a name, its value and the largest it may have; the least is 1.
///
/// # Errors
/// [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid) naming the first that is out of its range, and the range.
pub(crate) fn check(settings: &[(&str, u64, u64)]) -> Result<()> {
    match settings
        .iter()
        .find(|(_, value, high)| !(1..=*high).contains(value))
    {
        Some((name, value, high)) => Err(Error::invalid(format!(
            "`{name}` is {value}; it must be from 1 to {high}"
        ))),
        None => Ok(()),
    }
}
