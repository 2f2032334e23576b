//! The room on a disk.

use std::path::Path;

use sysinfo::Disks;

/// Bytes left on the disk that holds `path`, or will once it is made; `None` where the system does not say.
pub fn free_space(path: &Path) -> Option<u64> {
    let full = std::path::absolute(path).ok()?;
    let folder = full.ancestors().find_map(|part| part.canonicalize().ok())?;
    let disks = Disks::new_with_refreshed_list().ok()?;
    let holding = disks
        .iter()
        .filter(|disk| folder.starts_with(disk.mount_point()));
    holding
        .max_by_key(|disk| disk.mount_point().as_os_str().len())
        .map(sysinfo::Disk::available_space)
}
