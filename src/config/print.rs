//! The effective settings as the file that would say all of them.

use super::settings::Settings;

impl Settings {
    /// The settings as TOML: every default written out, secrets masked.
    ///
    /// # Errors
    /// Where TOML has no form for a value, which no checked setting has.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}
