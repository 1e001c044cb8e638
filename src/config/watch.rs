//! Has the configuration changed on disk? Looked at by the dates of its files, those of `${file:…}` among them, so that nothing is
//! read as long as nothing changes. Links are followed: Kubernetes swaps one to change a ConfigMap.

use std::{
    cell::RefCell,
    env, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{load, variables, variables::Surroundings};

/// The files of one configuration, as they were.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    loaded: Vec<Stamp>,
    /// What was found the last time, if it was another.
    seen: Option<Vec<Stamp>>,
}

/// What tells one state of a file from another: a path, its inode, date and length. `None` if it cannot be looked at.
type Stamp = (PathBuf, Option<(u64, Option<SystemTime>, u64)>);

impl Watch {
    /// To be called before the configuration at `path` is read, so that a change meanwhile is seen as one.
    pub fn new(path: &Path) -> Watch {
        Watch { path: path.to_owned(), loaded: stamps(files(path)), seen: None }
    }

    /// Whether the files are others than when they were read. Says so only once they stayed the same from one call to the next: a file
    /// that is half-written may well be a configuration, of fewer audiences.
    pub fn has_changed(&mut self) -> bool {
        let now = stamps(self.loaded.iter().map(|(path, _)| path.clone()).collect());
        if now == self.loaded {
            self.seen = None;
            return false;
        }
        let is_settled = self.seen.as_ref() == Some(&now);
        self.seen = Some(now);
        if is_settled {
            // Others may be named by now.
            *self = Watch::new(&self.path);
        }
        is_settled
    }
}

fn stamps(files: Vec<PathBuf>) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let state = fs::metadata(&path).ok().map(|file| (file.ino(), file.modified().ok(), file.len()));
        (path, state)
    };
    files.into_iter().map(stamp).collect()
}

/// The configuration, and the files that it takes in.
fn files(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let found = RefCell::new(vec![path.to_owned()]);
    let file = |name: &str| -> io::Result<String> {
        found.borrow_mut().push(folder.join(name));
        variables::read_small(folder, name)
    };
    let variable = |name: &str| env::var(name).ok();
    if let Ok(text) = fs::read_to_string(path) {
        // Right or wrong, it names files on the way.
        drop(load::parse("", &text, &Surroundings { variable: &variable, file: &file }));
    }
    found.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_when_it_has_settled_also_of_a_file_that_is_taken_in() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("secret", "one");
        write("rollcall.yaml", "space_id: ${file:secret}");
        let mut watch = Watch::new(&folder.path().join("rollcall.yaml"));
        assert!(!watch.has_changed() && !watch.has_changed());
        write("secret", "another");
        assert_eq!([watch.has_changed(), watch.has_changed(), watch.has_changed()], [false, true, false]);
        write("rollcall.yaml", "space_id: ${file:other}");
        assert!(!watch.has_changed());
        write("rollcall.yaml", "space_id: '${file:other}'");
        assert_eq!([watch.has_changed(), watch.has_changed(), watch.has_changed()], [false, true, false]);
        write("other", "is here now");
        assert_eq!([watch.has_changed(), watch.has_changed()], [false, true]);
        write("secret", "which nobody names any more");
        assert_eq!([watch.has_changed(), watch.has_changed()], [false, false]);
    }
}
