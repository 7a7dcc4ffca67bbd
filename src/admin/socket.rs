//! Where admin sockets are: the one list that server, demo and command line share.
//!
//! A daemon of the machine listens in `/run/tidegate`; one started by a person in that person's runtime
//! folder, or where there is none in a folder of its own in `/tmp`. Everybody may make folders in `/tmp`,
//! so a personal folder counts only if it is ours and nobody else can write to it: otherwise somebody
//! else could answer in the daemon's place.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a daemon of this user listens unless told otherwise: `/run/tidegate/admin.sock` for root,
/// `$XDG_RUNTIME_DIR/tidegate/admin.sock` or `/tmp/tidegate-UID/admin.sock` for others.
pub fn default_socket() -> PathBuf {
    Places::of_this_user().default_socket()
}

/// Where a demo on `port` listens: `demo-PORT.sock` in this user's own folder.
pub fn demo_socket(port: u16) -> PathBuf {
    Places::of_this_user().demo_socket(port)
}

/// Every place where a daemon may listen that this user would want to talk to. The well-known ones come
/// first, whether or not anything is there; then the sockets of demos, by name.
pub fn candidates() -> Vec<PathBuf> {
    Places::of_this_user().candidates()
}

/// Whether `folder` is a folder (and no link to one), belongs to this user, and nobody else can write to it.
pub fn is_ours(folder: &Path) -> bool {
    belongs_to(folder, rustix::process::geteuid().as_raw())
}

fn belongs_to(folder: &Path, uid: u32) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == uid && found.mode() & WRITABLE_BY_OTHERS == 0)
}

struct Places {
    system: PathBuf,
    /// `$XDG_RUNTIME_DIR/tidegate`.
    runtime: Option<PathBuf>,
    temporary: PathBuf,
    uid: u32,
}

impl Places {
    fn of_this_user() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        // The XDG Base Directory Specification: a relative path is to be ignored.
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            system: PathBuf::from("/run/tidegate"),
            runtime: runtime.map(|folder| folder.join("tidegate")),
            temporary: PathBuf::from(format!("/tmp/tidegate-{uid}")),
            uid,
        }
    }

    fn default_socket(&self) -> PathBuf {
        if self.uid == 0 { self.system.join("admin.sock") } else { self.personal().join("admin.sock") }
    }

    fn demo_socket(&self, port: u16) -> PathBuf {
        self.personal().join(format!("demo-{port}.sock"))
    }

    fn personal(&self) -> &Path {
        self.runtime.as_deref().unwrap_or(&self.temporary)
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let personal: Vec<&Path> = self
            .runtime
            .as_deref()
            .into_iter()
            .chain([self.temporary.as_path()])
            .filter(|folder| belongs_to(folder, self.uid) || !folder.exists())
            .collect();
        let mut sockets = vec![self.system.join("admin.sock")];
        sockets.extend(personal.iter().map(|folder| folder.join("admin.sock")));
        for folder in personal {
            let mut demos: Vec<PathBuf> = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|path| is_demo(path))
                .collect();
            demos.sort();
            sockets.extend(demos);
        }
        sockets
    }
}

fn is_demo(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix("demo-")?.strip_suffix(".sock"))
        .is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn places(folder: &Path, runtime: bool, uid: u32) -> Places {
        Places {
            system: folder.join("run"),
            runtime: runtime.then(|| folder.join("xdg")),
            temporary: folder.join("tmp"),
            uid,
        }
    }

    fn names(folder: &Path, places: &Places) -> Vec<String> {
        let shown = |path: PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
        places.candidates().into_iter().map(shown).collect()
    }

    fn mode(folder: &Path, mode: u32) {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn root_listens_in_run_and_others_in_their_own_folder() {
        let folder = Path::new("/f");
        assert_eq!(places(folder, true, 0).default_socket(), folder.join("run/admin.sock"));
        assert_eq!(places(folder, true, 7).default_socket(), folder.join("xdg/admin.sock"));
        assert_eq!(places(folder, false, 7).default_socket(), folder.join("tmp/admin.sock"));
        assert_eq!(places(folder, true, 0).demo_socket(8080), folder.join("xdg/demo-8080.sock"));
        assert_eq!(places(folder, false, 7).demo_socket(1), folder.join("tmp/demo-1.sock"));
    }

    #[test]
    fn places_without_a_folder_are_listed_and_demos_are_found_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let places = places(folder, true, rustix::process::geteuid().as_raw());
        let well_known = ["run/admin.sock", "xdg/admin.sock", "tmp/admin.sock"];
        assert_eq!(names(folder, &places), well_known);

        for own in ["xdg", "tmp"] {
            fs::create_dir(folder.join(own)).unwrap();
            mode(&folder.join(own), 0o750);
        }
        for name in
            ["demo-9.sock", "demo-x.sock", "demo-.sock", "demo-70000.sock", "other.sock", "demo-8.sock"]
        {
            fs::write(folder.join("xdg").join(name), "").unwrap();
        }
        fs::write(folder.join("tmp/demo-10.sock"), "").unwrap();
        let demos = ["xdg/demo-8.sock", "xdg/demo-9.sock", "tmp/demo-10.sock"];
        assert_eq!(names(folder, &places), [&well_known[..], &demos[..]].concat());
    }

    #[test]
    fn a_folder_that_others_could_have_filled_is_skipped() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let uid = rustix::process::geteuid().as_raw();
        fs::create_dir(folder.join("tmp")).unwrap();
        for (open, expected) in [(0o700, true), (0o755, true), (0o770, false), (0o707, false), (0o777, false)]
        {
            mode(&folder.join("tmp"), open);
            let found = names(folder, &places(folder, false, uid)).contains(&"tmp/admin.sock".to_owned());
            assert_eq!(found, expected, "{open:o}");
        }
        mode(&folder.join("tmp"), 0o700);
        assert_eq!(names(folder, &places(folder, false, uid.wrapping_add(1))), ["run/admin.sock"]);

        std::os::unix::fs::symlink(folder.join("tmp"), folder.join("xdg")).unwrap();
        let found = names(folder, &places(folder, true, uid));
        assert_eq!(found, ["run/admin.sock", "tmp/admin.sock"], "a link is not followed");
    }
}
