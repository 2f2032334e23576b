//! How much memory this machine has left.

/// Bytes that can be taken without swapping; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    // Linux; its estimate counts caches that would be given back.
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_says() {
        let text = "MemTotal:  100 kB\nMemAvailable:   64 kB\n";
        assert_eq!(parse(text), Some(65_536));
        assert_eq!(parse("MemTotal: 100 kB"), None);
        assert_eq!(parse("MemAvailable: many"), None);
    }
}
