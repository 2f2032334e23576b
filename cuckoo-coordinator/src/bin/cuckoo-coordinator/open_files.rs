//! The system's limit of open files, which a connection counts against.

/// For what is not a connection: the store, the chain, logs.
const RESERVED: u64 = 256;

/// Raises this process's limit as far as `connections` need and the system lets it; gives how many there may be.
pub(crate) fn room_for(connections: usize) -> usize {
    let wanted = (connections as u64).saturating_add(RESERVED);
    let allowed = match rlimit::increase_nofile_limit(wanted) {
        Ok(allowed) => allowed,
        Err(error) => {
            tracing::warn!(%error, "cannot read the limit of open files");
            return connections;
        }
    };
    if allowed >= wanted {
        return connections;
    }
    let room = allowed.saturating_sub(RESERVED).max(allowed / 2).max(1);
    tracing::warn!(
        "this process may open {allowed} files, so it takes {room} connections at a time and not {connections}; raise the \
         hard limit (`ulimit -Hn`, LimitNOFILE of systemd) or lower http.max_connections"
    );
    usize::try_from(room).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_and_never_more_than_asked() {
        assert_eq!(room_for(10), 10);
        let room = room_for(usize::MAX / 2);
        assert!((1..usize::MAX / 2).contains(&room), "{room}");
    }
}
