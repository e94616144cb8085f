//! Flock's calls: typed requests in, typed answers out.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::provider_apis::http::{Answer, Call, Client};
use crate::provider_apis::{Calling, authorization};

/// Where the API is.
const BASE: &str = "https://api.withflock.com";

/// Flock's API under one key.
pub struct Api(Client);

/// Where campaigns, checkpoints and rewards are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Production,
    Test,
}

impl Environment {
    const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Test => "test",
        }
    }
}

/// Who gets a reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RewardFor {
    #[value(name = "self")]
    #[serde(rename = "self")]
    Myself,
    #[value(name = "referral_partner")]
    ReferralPartner,
}

/// A customer that is to be known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identify<'a> {
    pub external_user_id: &'a str,
    pub email: &'a str,
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_properties: Option<&'a Map<String, Value>>,
}

/// A referral that is to be made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateReferral<'a> {
    pub campaign_id: &'a str,
    pub referral_code: &'a str,
    pub referee_id: &'a str,
}

/// A step that a customer has made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached<'a> {
    pub checkpoint_name: &'a str,
    pub external_user_id: &'a str,
    pub environment: Environment,
}

/// A reward that is to be given.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerReward<'a> {
    pub external_user_id: &'a str,
    pub environment: Environment,
    pub reward_for: &'a [RewardFor],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ValidateCode<'a> {
    referral_code: &'a str,
}

/// Whether a code is one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Validation {
    is_valid: bool,
    referred_by: Option<Value>,
}

/// What a call did.
#[derive(Debug)]
pub struct Done {
    /// The answer's status.
    pub status: u16,
    /// The id in the answer: of the customer, the campaign, the referral, of whom a code is of.
    pub id: Option<String>,
    /// Whether a code is one.
    pub is_valid: Option<bool>,
    /// The answer, which may have persons' data; null where it is no JSON.
    pub answer: Value,
}

impl Api {
    /// The API under the key of this file.
    pub fn new(settings: &Settings, calling: &Calling, key_file: &str) -> Result<Self, Failure> {
        let key = authorization(&settings.secrets_dir, key_file, "")?;
        Client::new("Flock", BASE, calling, (key, key_file)).map(Self)
    }

    /// Makes a customer known, or what is known of it new.
    pub async fn identify(&self, customer: &Identify<'_>) -> Result<Done, Failure> {
        let path = ["customers", "identify"];
        let done = self.post(&path, customer, true).await?;
        Ok(done.with_id(&["id", "customer.id", "data.id"]))
    }

    /// The campaign that runs.
    pub async fn live_campaign(
        &self,
        environment: Environment,
        customer: &str,
    ) -> Result<Done, Failure> {
        let query = [
            ("environment", environment.name()),
            ("customerId", customer),
        ];
        let call = Call {
            method: Method::GET,
            path: &["campaigns", "live"],
            query: &query,
            body: None,
            is_repeatable: true,
        };
        let done = self.call(&call).await?;
        Ok(done.with_id(&["id", "campaign.id", "data.id"]))
    }

    /// Whether a code is one, and whose.
    pub async fn validate_code(&self, referral_code: &str) -> Result<Done, Failure> {
        let path = ["referrals", "validate-code"];
        let request = ValidateCode { referral_code };
        let done = self.post(&path, &request, true).await?;
        let read: Result<Validation, _> = serde_json::from_value(done.answer.clone());
        let validation = read.map_err(|_| {
            Failure::Failed("Flock's answer has no isValid: is --api-url its API?".to_owned())
        })?;
        let id = validation.referred_by.as_ref().and_then(|by| id(by, "id"));
        Ok(Done {
            id,
            is_valid: Some(validation.is_valid),
            ..done
        })
    }

    /// Makes a referral. Twice may be two.
    pub async fn create_referral(&self, referral: &CreateReferral<'_>) -> Result<Done, Failure> {
        let done = self.post(&["referrals"], referral, false).await?;
        Ok(done.with_id(&["id", "referral.id", "data.id"]))
    }

    /// Takes note of a step, which may give rewards. Twice may be two.
    pub async fn ingest_checkpoint(&self, checkpoint: &Reached<'_>) -> Result<Done, Failure> {
        self.post(&["checkpoints", "ingest"], checkpoint, false)
            .await
    }

    /// Gives a reward. Twice may be two.
    pub async fn trigger_reward(&self, reward: &TriggerReward<'_>) -> Result<Done, Failure> {
        let done = self.post(&["rewards", "trigger"], reward, false).await?;
        Ok(done.with_id(&["id", "reward.id", "data.id"]))
    }

    async fn post(
        &self,
        path: &[&str],
        request: &(impl Serialize + Sync),
        is_repeatable: bool,
    ) -> Result<Done, Failure> {
        let body = serde_json::to_vec(request);
        let body = body.map_err(|error| Failure::Failed(error.to_string()))?;
        let call = Call {
            method: Method::POST,
            path,
            query: &[],
            body: Some(body),
            is_repeatable,
        };
        self.call(&call).await
    }

    async fn call(&self, call: &Call<'_>) -> Result<Done, Failure> {
        let answer = self.0.call(call).await.map_err(|ended| ended.failure)?;
        if answer.is_success() {
            return Ok(Done {
                status: answer.status,
                id: None,
                is_valid: None,
                answer: serde_json::from_slice(&answer.body).unwrap_or_default(),
            });
        }
        Err(refused(&answer))
    }
}

impl Done {
    /// With the id at the first of these paths that has one.
    fn with_id(mut self, paths: &[&str]) -> Self {
        self.id = paths.iter().find_map(|path| id(&self.answer, path));
        self
    }
}

fn id(answer: &Value, path: &str) -> Option<String> {
    let mut members = path.split('.');
    let found = members.try_fold(answer, |value, member| value.get(member))?;
    match found {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The answer may quote a person's data, so that it is not shown.
fn refused(answer: &Answer) -> Failure {
    let hint = match answer.status {
        404 => "it knows no such customer, campaign, code or checkpoint, or none is live",
        409 => "it is there already",
        _ => "what it was sent is not as it wants it",
    };
    Failure::Failed(format!("Flock refuses it ({}): {hint}", answer.status))
}
