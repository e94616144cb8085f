//! What changed in the file and waits for a restart.

/// The paths of what waits for a restart.
#[derive(Debug, Default)]
pub struct RestartRequired(pub Vec<String>);

impl RestartRequired {
    /// The old value stays.
    pub fn keep<T: PartialEq + Clone>(&mut self, path: &str, old: &T, new: &mut T) {
        if old != new {
            self.0.push(path.to_owned());
            new.clone_from(old);
        }
    }
}
