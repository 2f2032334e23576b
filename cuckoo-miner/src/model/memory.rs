//! How much memory this machine has, and has left.

/// Bytes that can be taken without swapping; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    // Linux; its estimate counts caches that would be given back.
    read("MemAvailable:")
}

/// Bytes of memory that there are; `None` where the system does not say.
pub(crate) fn total() -> Option<u64> {
    read("MemTotal:")
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
    use super::*;

    #[test]
    fn reads_what_linux_says() {
        let text = "MemTotal:  100 kB\nMemAvailable:   64 kB\n";
        assert_eq!(parse(text, "MemAvailable:"), Some(65_536));
        assert_eq!(parse(text, "MemTotal:"), Some(102_400));
        assert_eq!(parse("MemTotal: 100 kB", "MemAvailable:"), None);
        assert_eq!(parse("MemAvailable: many", "MemAvailable:"), None);
    }
}
