//! What the control groups of this process let it have of memory.

use std::fs;
use std::path::{Path, PathBuf};

/// What version 1 says where nothing is bounded: the largest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// The least memory limit of the groups that this process is in, in bytes; `None` where none bounds it.
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_under(Path::new("/sys/fs/cgroup"), &groups)
}

/// Each group bounds those below it. In a container the path may be that of the host, of which the container
/// sees nothing: then its own group is the root of what is mounted.
fn limit_under(root: &Path, groups: &str) -> Option<u64> {
    let hierarchies = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        if controllers.is_empty() {
            Some((root.to_owned(), path, "memory.max"))
        } else if controllers.split(',').any(|name| name == "memory") {
            Some((root.join("memory"), path, "memory.limit_in_bytes"))
        } else {
            None
        }
    });
    let limits = hierarchies.flat_map(|(mount, path, file)| {
        let below = PathBuf::from(path.trim_start_matches('/'));
        let groups: Vec<PathBuf> = below.ancestors().map(|group| mount.join(group)).collect();
        groups
            .into_iter()
            .filter_map(move |group| read(&group.join(file)))
    });
    limits.min()
}

fn read(file: &Path) -> Option<u64> {
    // "max" is no number.
    let limit = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (limit < NO_LIMIT).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(files: &[(&str, &str)], groups: &str) -> Option<u64> {
        let name = format!("sluice-cgroup-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a folder");
        for (file, content) in files {
            let file = dir.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, content).expect("a file");
        }
        let limit = limit_under(&dir, groups);
        fs::remove_dir_all(&dir).expect("it was made");
        limit
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts_in_both_versions() {
        let two = [
            ("memory.max", "max\n"),
            ("pod/memory.max", "2147483648\n"),
            ("pod/container/memory.max", "4294967296\n"),
        ];
        assert_eq!(limit(&two, "0::/pod/container\n"), Some(2 << 30));
        assert_eq!(limit(&two, "0::/\n"), None);
        // A container sees its own group as the root, whatever the path says.
        let own = [("memory.max", "1073741824\n")];
        assert_eq!(limit(&own, "0::/../../kubepods/pod1\n"), Some(1 << 30));
        let one = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/pod/memory.limit_in_bytes", "536870912\n"),
            ("cpu/pod/memory.max", "1\n"),
        ];
        let groups = "5:cpu,cpuacct:/pod\n4:memory:/pod\n0::/\n";
        assert_eq!(limit(&one, groups), Some(512 << 20));
        assert_eq!(limit(&one, "4:memory:/\n"), None);
        assert_eq!(limit(&[], "not a line\n0::/pod\n"), None);
    }
}
