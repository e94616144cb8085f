//! `sluicectl flock`: calls of Flock's server API, one a run.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::{output, records};

mod client;

mod customer;

mod options;

pub use options::Options;

use client::{Api, CreateReferral, Done, Identify, Reached, TriggerReward};
use customer::one;
use options::Command;

/// The line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    call: &'a str,
    status: u16,
    id: Option<&'a str>,
    is_valid: Option<bool>,
    answer: Option<&'a Value>,
}

const CODE: &str = "--referral-code or referralCode in --customer-file";

/// Makes the call; whether a code is one, where that was asked.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let settings = records::settings(file)?;
    let common = options.command.common();
    let api = Api::new(&settings, &common.calling, &common.api_key_file)?;
    let done = call(&api, &options.command).await?;
    let shown = common.show_bodies.then_some(&done.answer);
    print(&done, options.command.name(), shown, common.calling.json);
    Ok(done.is_valid.unwrap_or(true))
}

async fn call(api: &Api, command: &Command) -> Result<Done, Failure> {
    match command {
        Command::IdentifyCustomer { customer_file, .. } => identify(api, customer_file).await,
        Command::LiveCampaign {
            environment,
            customer_id,
            from,
            ..
        } => {
            let member = from.read()?.customer_id;
            let names = "--customer-id or customerId in --customer-file";
            let customer = one(customer_id.as_ref(), member.as_ref(), names)?;
            api.live_campaign(*environment, &customer).await
        }
        Command::ValidateCode {
            referral_code,
            from,
            ..
        } => {
            let member = from.read()?.referral_code;
            let code = one(referral_code.as_ref(), member.as_ref(), CODE)?;
            api.validate_code(&code).await
        }
        Command::CreateReferral {
            campaign_id,
            referral_code,
            referee_id,
            from,
            ..
        } => create_referral(api, campaign_id, [referral_code, referee_id], from).await,
        Command::IngestCheckpoint {
            checkpoint_name,
            external_user_id,
            environment,
            from,
            ..
        } => {
            let request = Reached {
                checkpoint_name,
                external_user_id: &external(external_user_id.as_ref(), from)?,
                environment: *environment,
            };
            api.ingest_checkpoint(&request).await
        }
        Command::TriggerReward {
            external_user_id,
            environment,
            reward_for,
            from,
            ..
        } => {
            let request = TriggerReward {
                external_user_id: &external(external_user_id.as_ref(), from)?,
                environment: *environment,
                reward_for,
            };
            api.trigger_reward(&request).await
        }
    }
}

async fn identify(api: &Api, file: &Path) -> Result<Done, Failure> {
    let customer = customer::read(file)?;
    let member =
        |member: Option<&String>, name| one(None, member, &format!("{name} in --customer-file"));
    let request = Identify {
        external_user_id: &member(customer.external_user_id.as_ref(), "externalUserId")?,
        email: &member(customer.email.as_ref(), "email")?,
        name: &member(customer.name.as_ref(), "name")?,
        custom_properties: customer.custom_properties.as_ref(),
    };
    api.identify(&request).await
}

async fn create_referral(
    api: &Api,
    campaign_id: &str,
    [code, referee]: [&Option<String>; 2],
    from: &customer::From,
) -> Result<Done, Failure> {
    let customer = from.read()?;
    let names = "--referee-id or refereeId in --customer-file";
    let request = CreateReferral {
        campaign_id,
        referral_code: &one(code.as_ref(), customer.referral_code.as_ref(), CODE)?,
        referee_id: &one(referee.as_ref(), customer.referee_id.as_ref(), names)?,
    };
    api.create_referral(&request).await
}

/// The customer's id in the system of the caller.
fn external(flag: Option<&String>, from: &customer::From) -> Result<String, Failure> {
    let member = from.read()?.external_user_id;
    let names = "--external-user-id or externalUserId in --customer-file";
    one(flag, member.as_ref(), names)
}

fn print(done: &Done, call: &str, shown: Option<&Value>, json: bool) {
    let Done {
        status,
        id,
        is_valid,
        ..
    } = done;
    let line = Line {
        call,
        status: *status,
        id: id.as_deref(),
        is_valid: *is_valid,
        answer: shown,
    };
    if json {
        output::line(&serde_json::json!(line).to_string());
        return;
    }
    let valid = match is_valid {
        Some(true) => "  valid",
        Some(false) => "  not valid",
        None => "",
    };
    let id = id
        .as_deref()
        .map_or("no id in the answer".to_owned(), output::plain);
    output::line(&format!("{call}  {status}{valid}  {id}"));
    if let Some(answer) = shown {
        output::line(&output::plain(&answer.to_string()));
    }
}
