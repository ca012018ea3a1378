//! One run against one server: connection, settings and what the server offers, held together; how
//! planned steps become changes, LDIF, and a word to directoryd.

use serde_json::Value;
use service::Secret;

use crate::arguments::General;
use crate::directory::Directory;
use crate::error::AdminError;
use crate::holders::LocalAccounts;
use crate::ids::Counter;
use crate::plan::{self, Step};
use crate::schema::Offers;
use crate::settings::Settings;

/// An open connection with what is needed beside it.
pub struct Session<'a> {
    /// The connection.
    pub directory: Directory,
    /// The configuration.
    pub settings: &'a Settings,
    /// What the server offers.
    pub offers: Offers,
    /// This machine's own accounts.
    pub local: LocalAccounts,
    dry_run: bool,
    compare_and_set: bool,
}

/// What a command found or did.
#[derive(Debug)]
pub struct Outcome {
    /// For people.
    pub text: String,
    /// For machines.
    pub json: Value,
    /// Something is different in the directory now.
    pub changed: bool,
    /// Went well, but somebody should know.
    pub warnings: Vec<String>,
}

impl Outcome {
    /// Something that was looked up.
    pub fn found(text: String, json: Value) -> Self {
        Self {
            text,
            json,
            changed: false,
            warnings: Vec::new(),
        }
    }

    /// Something that was changed; `json` gets `"changed": true`.
    pub fn changed(text: String, json: Value) -> Self {
        Self {
            text,
            json: with_changed(json, true),
            changed: true,
            warnings: Vec::new(),
        }
    }

    /// Everything was so already; `json` gets `"changed": false`.
    pub fn unchanged(text: String, json: Value) -> Self {
        Self {
            text,
            json: with_changed(json, false),
            changed: false,
            warnings: Vec::new(),
        }
    }

    /// Steps that were not made.
    pub fn planned(steps: &[Step]) -> Self {
        let text: String = steps.iter().map(Step::ldif).collect();
        let json = serde_json::json!({ "changed": false, "planned": text });
        Self::found(text, json)
    }
}

/// A value of the directory as one line of text: whoever may write the value must not write to the
/// administrator's terminal. JSON has its own way.
pub fn shown(value: &str) -> String {
    let plain = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    value.chars().map(plain).collect()
}

fn with_changed(mut json: Value, changed: bool) -> Value {
    if let Some(object) = json.as_object_mut() {
        object.insert("changed".into(), changed.into());
    }
    json
}

/// What to do where a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Take back the steps before it.
    Undo,
    /// Leave them; the same command goes on from there.
    Stop,
}

impl<'a> Session<'a> {
    /// Connects, binds, and learns what the server offers.
    ///
    /// # Errors
    /// [`AdminError`] of the step that failed.
    pub async fn open(
        settings: &'a Settings,
        general: &General,
        password: &Secret<Vec<u8>>,
    ) -> Result<Self, AdminError> {
        let mut directory = Directory::open(settings, password).await?;
        let offers = Offers::read(&mut directory, settings).await?;
        Ok(Self {
            directory,
            settings,
            offers,
            local: LocalAccounts::read(),
            dry_run: general.dry_run,
            compare_and_set: general.compare_and_set,
        })
    }

    /// Makes the steps, unless this is a dry run: then returns what would have been made.
    ///
    /// # Errors
    /// [`AdminError`] of the step that failed.
    pub async fn carry_out(
        &mut self,
        steps: &[Step],
        on_failure: OnFailure,
    ) -> Result<Option<Outcome>, AdminError> {
        if self.dry_run {
            return Ok(Some(Outcome::planned(steps)));
        }
        match on_failure {
            OnFailure::Undo => plan::make_or_undo(&mut self.directory, steps).await?,
            OnFailure::Stop => plan::make_as_far_as_possible(&mut self.directory, steps).await?,
        }
        Ok(None)
    }

    /// A number from the counter; in a dry run the next one, which is then not taken.
    ///
    /// # Errors
    /// Those of [`Counter::take`].
    pub async fn take_id(&mut self) -> Result<u32, AdminError> {
        let counter = self.counter();
        if self.dry_run {
            return counter.peek(&mut self.directory).await;
        }
        counter.take(&mut self.directory, &self.local).await
    }

    /// The counter on this server.
    pub fn counter(&self) -> Counter<'a> {
        Counter::new(self.settings, &self.offers, self.compare_and_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_on_their_line() {
        assert_eq!(
            shown("José \u{1b}[2J\nuid: 0\t"),
            "José \\u{1b}[2J\\nuid: 0\\t"
        );
    }
}
