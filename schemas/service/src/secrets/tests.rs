//! Secret files: what is taken, what is refused, and what a change of them does.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A directory that is removed when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.0.join(name), content).expect("a temporary file");
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(dir: &Path, secrets: &str) -> Settings {
    settings_of(dir, "flock", secrets)
}

fn settings_of(dir: &Path, provider: &str, secrets: &str) -> Settings {
    let yaml = format!(
        "kafka: {{bootstrap_servers: b}}\nsecrets_dir: {}\nsources: {{s: {{provider: {provider}, secrets: {secrets}}}}}",
        dir.display()
    );
    let path = dir.join("settings.yaml");
    fs::write(&path, yaml).expect("a temporary file");
    crate::settings::load(&path).expect("good settings")
}

fn matches(store: &Store, secret: &[u8]) -> bool {
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), b"m");
    let credentials = store.get("s").expect("the source is configured");
    credentials
        .at(0)
        .keys
        .iter()
        .any(|key| key.hmac_matches(&[b"m"], tag.as_ref()))
}

#[test]
fn one_line_end_is_taken_off() {
    let dir = Dir::new("line-ends");
    for (content, secret) in [
        (b"x".as_slice(), Ok(b"x".to_vec())),
        (b"x\n", Ok(b"x".to_vec())),
        (b"x\r\n", Ok(b"x".to_vec())),
        (b"x\n\n", Ok(b"x\n".to_vec())),
        (b"x\r", Ok(b"x\r".to_vec())),
        (b"\n", Err(())),
        (b"", Err(())),
    ] {
        dir.write("a", content);
        assert_eq!(
            read_secret(&dir.0, "a").map_err(|_| ()),
            secret,
            "{content:?}"
        );
    }
    dir.write("a", &vec![b'x'; 65_537]);
    assert!(
        read_secret(&dir.0, "a")
            .expect_err("too long")
            .contains("65536")
    );
    assert!(
        read_secret(&dir.0, "b")
            .expect_err("none")
            .contains("is not there")
    );
}

#[test]
fn bytes_around_a_secret_that_count_as_part_of_it_are_named() {
    let dir = Dir::new("strays");
    let mark = "\u{feff}".to_owned();
    for (content, found) in [
        ("topsecret", ""),
        ("topsecret\n", ""),
        ("topsecret\r\n", ""),
        ("top secret", ""),
        ("topsecret\n\n", "another line end behind it"),
        ("topsecret\r\n\r\n", "another line end behind it"),
        ("topsecret\r", "another line end behind it"),
        ("topsecret ", "a blank behind it"),
        ("topsecret\t\n", "a blank behind it"),
        (
            "topsecret \n\n",
            "a blank behind it, another line end behind it",
        ),
        ("\ntopsecret\n", "a line end before it"),
        ("  topsecret", "a blank before it"),
        (
            &(mark.clone() + "topsecret\n"),
            "a byte order mark before it",
        ),
        (
            &(mark + " topsecret "),
            "a byte order mark before it, a blank before it, a blank behind it",
        ),
    ] {
        dir.write("a", content.as_bytes());
        let store = Store::load(&settings(&dir.0, "[a]")).expect("a good secret");
        let sources = store.sources.lock();
        let reading = sources[0].0.read(&dir.0).expect("a good secret");
        let strays = reading.strays.iter();
        let found_strays: Vec<(&str, &str)> = strays
            .map(|stray| (stray.file.as_str(), stray.found.as_str()))
            .collect();
        let expected = if found.is_empty() {
            vec![]
        } else {
            vec![("a", found)]
        };
        assert_eq!(found_strays, expected, "{content:?}");
    }
}

#[test]
fn a_fault_names_the_bytes_around_the_secret_and_not_the_secret() {
    let dir = Dir::new("stray-fault");
    dir.write("a", b"\xef\xbb\xbfwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let flowcode = settings_of(&dir.0, "flowcode", "[a]");
    let faults = Store::load(&flowcode).expect_err("a fault");
    let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "sources.s.secrets: the file a: the secret begins with neither whsec_ nor whpk_ \
             (the file has a byte order mark before it)"
        ]
    );
}

#[test]
fn all_faults_are_returned_at_the_start() {
    let dir = Dir::new("faults");
    dir.write("empty", b"\n");
    let faults = Store::load(&settings(&dir.0, "[empty, absent]")).expect_err("two faults");
    let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "sources.s.secrets: the file empty is empty",
            "sources.s.secrets: the file absent is not there",
        ]
    );
}

#[test]
fn a_change_is_seen_and_a_bad_one_leaves_the_last_good() {
    let dir = Dir::new("reload");
    dir.write("a", b"first-secret\n");
    let store = Store::load(&settings(&dir.0, "[a]")).expect("good secrets");
    let held = store.snapshot();
    assert!(matches(&store, b"first-secret"));
    assert_eq!(store.get("s").expect("it is there").at(0).keys[0].name, "a");

    store.reload();
    assert!(Arc::ptr_eq(&held, &store.snapshot()), "nothing changed");

    dir.write("a", b"second-secret\r\n");
    store.reload();
    assert!(matches(&store, b"second-secret") && !matches(&store, b"first-secret"));

    fs::remove_file(dir.0.join("a")).expect("it was there");
    store.reload();
    store.reload();
    assert!(matches(&store, b"second-secret"));
    assert_eq!(store.failures.get(), 2);

    dir.write("a", b"third-secret");
    store.reload();
    assert!(matches(&store, b"third-secret"));
    assert!(!format!("{store:?}").contains("third-secret"));
}

#[test]
fn a_directory_swapped_by_symlink_is_seen() {
    let dir = Dir::new("symlink");
    let swap = |version: &str, secret: &[u8]| {
        fs::create_dir(dir.0.join(version)).expect("a new directory");
        dir.write(&format!("{version}/a"), secret);
        symlink(version, dir.0.join("..next")).expect("a link");
        fs::rename(dir.0.join("..next"), dir.0.join("..data")).expect("an atomic swap");
    };
    swap("..1", b"first-secret");
    symlink("..data/a", dir.0.join("a")).expect("a link");
    let store = Store::load(&settings(&dir.0, "[a]")).expect("good secrets");
    swap("..2", b"second-secret");
    store.reload();
    assert!(matches(&store, b"second-secret"));
}

#[test]
fn new_settings_change_when_a_secret_is_valid_and_what_it_is_called() {
    let dir = Dir::new("times");
    dir.write("a", b"first-secret");
    dir.write("b", b"second-secret");
    let store = Store::load(&settings(&dir.0, "[a]")).expect("good secrets");
    let names = |store: &Store, at: i64| -> Vec<String> {
        let keyring = store.get("s").expect("it is there");
        let keys = keyring.at(at * 1_000_000).keys.iter();
        keys.map(|key| key.name.clone()).collect()
    };
    assert_eq!(names(&store, 0), ["a"]);
    let rotated = "[{name: a, not_after: 1970-01-01T00:00:20Z}, {name: b, not_before: 1970-01-01T00:00:10Z, \
                   key_id: b-2}]";
    let store = store
        .renewed(&settings(&dir.0, rotated))
        .expect("good secrets");
    assert_eq!(names(&store, 9), ["a"]);
    assert_eq!(names(&store, 10), ["a", "b-2"]);
    assert_eq!(names(&store, 20), ["a", "b-2"]);
    assert_eq!(names(&store, 21), ["b-2"]);
    dir.write("b", b"third-secret");
    store.reload();
    assert_eq!(
        names(&store, 21),
        ["b-2"],
        "a new content has the same times"
    );
}
