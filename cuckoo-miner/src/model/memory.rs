//! How much memory this machine has, and has left.

use cuckoo_core::{Error, Result, Retry};

/// Bytes that can be taken without swapping; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    // Linux; its estimate counts caches that would be given back.
    read("MemAvailable:")
}

/// Bytes of memory that there are; `None` where the system does not say.
pub(crate) fn total() -> Option<u64> {
    read("MemTotal:")
}

/// Refuses a run for which this machine never had the memory; `what` names it, and it needs so many bytes.
///
/// # Errors
/// [`Rejected`](cuckoo_core::ErrorKind::Rejected), for good.
pub(crate) fn fits(what: &str, needed: u64) -> Result<()> {
    within(what, needed, total(), None)
}

/// Refuses a run for which there is no memory now.
///
/// # Errors
/// As [`fits`]; [`Rejected`](cuckoo_core::ErrorKind::Rejected) for now, since what is short may be back in a moment.
pub(crate) fn admit(what: &str, needed: u64) -> Result<()> {
    within(what, needed, total(), available())
}

fn within(what: &str, needed: u64, total: Option<u64>, available: Option<u64>) -> Result<()> {
    let short = |there: Option<u64>| there.filter(|there| *there < needed);
    if let Some(total) = short(total) {
        return Err(Error::rejected(format!(
            "{what} takes about {needed} bytes of memory, and this machine has {total}"
        )));
    }
    if let Some(available) = short(available) {
        let problem =
            format!("{what} takes about {needed} bytes of memory, and {available} are free");
        return Err(Error::rejected(problem).with_retry(Retry::Later));
    }
    Ok(())
}

fn read(name: &str) -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

fn parse(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use cuckoo_core::ErrorKind;

    use super::*;

    #[test]
    fn reads_what_linux_says() {
        let text = "MemTotal:  100 kB\nMemAvailable:   64 kB\n";
        assert_eq!(parse(text, "MemAvailable:"), Some(65_536));
        assert_eq!(parse(text, "MemTotal:"), Some(102_400));
        assert_eq!(parse("MemTotal: 100 kB", "MemAvailable:"), None);
        assert_eq!(parse("MemAvailable: many", "MemAvailable:"), None);
    }
    #[test]
    fn what_the_machine_never_had_is_refused_for_good() {
        let refused = |needed, total, available| {
            let error = within("a picture", needed, total, available).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Rejected);
            assert!(error.message().contains("a picture takes"), "{error}");
            error.retry()
        };
        assert_eq!(refused(101, Some(100), None), Retry::Never);
        assert_eq!(refused(101, Some(100), Some(100)), Retry::Never);
        assert_eq!(refused(65, Some(100), Some(64)), Retry::Later);
        assert_eq!(refused(65, None, Some(64)), Retry::Later);
        within("a picture", 64, Some(100), Some(64)).unwrap();
        within("a picture", u64::MAX, None, None).unwrap();
    }
}
