//! HTTP to a provider's API: a call in; its answer, or why there is none, out. Tried again within bounds
//! where the provider asks for it or is away. To https alone, or to this host; no redirect is followed.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use sluice_service::causes::in_words;
use time::OffsetDateTime;

use super::{Calling, wait};
use crate::failure::Failure;

/// How often a call is tried.
const ATTEMPTS: u32 = 5;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer, in bytes: far above any of theirs.
const LONGEST: usize = 256 * 1024;

/// A client of one provider's API, with the key.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: HeaderValue,
    key_file: String,
    who: &'static str,
    timeout: Duration,
    patience: Duration,
}

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The path's segments.
    pub path: &'a [&'a str],
    /// The query.
    pub query: &'a [(&'a str, &'a str)],
    /// The body, which is JSON.
    pub body: Option<Vec<u8>>,
    /// Whether to do it twice is the same as to do it once.
    pub is_repeatable: bool,
}

/// An answer below 300, or from 400 to 499 but for those that mean the key or ask to come again.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// An attempt before this one may have been carried out.
    pub doubted: bool,
}

/// A call that has no answer.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub failure: Failure,
    /// It may have been carried out.
    pub doubted: bool,
}

/// What came of one attempt.
enum Once {
    Answered(u16, Vec<u8>),
    /// Another attempt does not help.
    Ends(Failure),
    /// It can be tried again: after how long, why, and whether it may have been carried out.
    Again(Option<Duration>, String, bool),
}

impl Client {
    /// A client of `who`, at `default` unless the command line names another place.
    pub fn new(
        who: &'static str,
        default: &str,
        calling: &Calling,
        (key, key_file): (HeaderValue, &str),
    ) -> Result<Self, Failure> {
        let base = base(calling.api_url.as_deref().unwrap_or(default))?;
        let is_plain = base.scheme() == "http";
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .https_only(!is_plain)
            .user_agent(concat!("sluicectl/", env!("CARGO_PKG_VERSION")))
            // An old connection may end under a call, and whether that was carried out would not be known.
            .pool_max_idle_per_host(0);
        if is_plain {
            // A proxy of the environment would get the key in plain text.
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| Failure::Failed(in_words(error)))?;
        Ok(Self {
            http,
            base,
            key,
            key_file: key_file.to_owned(),
            who,
            timeout: calling.timeout,
            patience: calling.patience,
        })
    }

    /// The provider's name, for sentences.
    pub fn who(&self) -> &'static str {
        self.who
    }

    /// Makes a call, and again where that may help, within the bounds.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, Ended> {
        let (began, mut doubted, mut attempts) = (Instant::now(), false, 0);
        loop {
            let left = self.patience.saturating_sub(began.elapsed());
            let (asked, why, maybe_done) = match self.once(call, left).await {
                Once::Answered(status, body) => {
                    return Ok(Answer {
                        status,
                        body,
                        doubted,
                    });
                }
                Once::Ends(failure) => return Err(Ended { failure, doubted }),
                Once::Again(asked, why, maybe_done) => (asked, why, maybe_done),
            };
            attempts += 1;
            doubted |= maybe_done;
            if maybe_done && !call.is_repeatable {
                let failure = Failure::Failed(format!(
                    "{why}. It may have been carried out, and is not tried again, for twice would be two: look at \
                     {} first",
                    self.who
                ));
                return Err(Ended { failure, doubted });
            }
            let pause = asked.unwrap_or_else(|| wait::own(attempts));
            if let Some(end) = self.end(attempts, pause, began) {
                let failure = Failure::TryAgain(format!("{why}; {end}"));
                return Err(Ended { failure, doubted });
            }
            eprintln!("{why}; another attempt in {}", in_seconds(pause));
            tokio::time::sleep(pause).await;
        }
    }

    /// Why there is no further attempt, where there is none.
    fn end(&self, attempts: u32, pause: Duration, began: Instant) -> Option<String> {
        if attempts >= ATTEMPTS {
            return Some(format!("{ATTEMPTS} attempts failed"));
        }
        if began.elapsed() + pause < self.patience {
            return None;
        }
        let (pause, patience) = (in_seconds(pause), in_seconds(self.patience));
        Some(format!(
            "another attempt in {pause} is past --patience, {patience}"
        ))
    }

    async fn once(&self, call: &Call<'_>, left: Duration) -> Once {
        let mut request = self.http.request(call.method.clone(), self.url(call));
        request = request.header(AUTHORIZATION, self.key.clone());
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let request = request.timeout(self.timeout.min(left));
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return self.unanswered(error),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    let why = format!(
                        "{} answered {status}, and the rest of its answer did not come: {}",
                        self.who,
                        cause(error)
                    );
                    return Once::Again(None, why, !(400..500).contains(&status));
                }
            }
            if body.len() > LONGEST {
                return Once::Ends(Failure::Failed(format!(
                    "{} answered {status} with more than {LONGEST} bytes: is --api-url its API?",
                    self.who
                )));
            }
        }
        self.answered(status, &headers, body)
    }

    fn answered(&self, status: u16, headers: &HeaderMap, body: Vec<u8>) -> Once {
        let who = self.who;
        let asked = || wait::asked(headers, &body, OffsetDateTime::now_utc());
        match status {
            300..=399 => Once::Ends(Failure::Failed(format!(
                "{who} answered {status}, a redirect, which is not followed: the key goes to one place alone. Is \
                 --api-url its API?"
            ))),
            401 | 403 => Once::Ends(Failure::Config(vec![format!(
                "the file {}: {who} refuses its key ({status})",
                self.key_file
            )])),
            408 | 425 => Once::Again(asked(), format!("{who} answered {status}"), false),
            429 => {
                let why = format!("{who} answered 429, too many calls");
                Once::Again(asked(), why, false)
            }
            500.. => Once::Again(asked(), format!("{who} answered {status}"), true),
            _ => Once::Answered(status, body),
        }
    }

    /// Why a call has no answer; whether it may have been carried out.
    fn unanswered(&self, error: reqwest::Error) -> Once {
        let who = self.who;
        // A connection that was never made carried no call.
        let maybe_done = !error.is_connect();
        let why = if maybe_done {
            format!("{who} did not answer: {}", cause(error))
        } else {
            format!("{who} cannot be reached: {}", cause(error))
        };
        Once::Again(None, why, maybe_done)
    }

    fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        url
    }
}

impl Answer {
    /// Whether it is done.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Where the API is: over TLS, or on this host.
fn base(text: &str) -> Result<Url, Failure> {
    let usage = |message: &str| Failure::Usage(format!("--api-url {message}"));
    let url =
        Url::parse(text).map_err(|_| usage("must be a URL such as https://api.example.com"))?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if !is_plain || url.query().is_some() || url.fragment().is_some() {
        return Err(usage("must have no user, no query and no fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_this_host(&url) => Ok(url),
        _ => Err(usage(
            "must begin with https: a key is sent in plain text to 127.0.0.1, [::1] and localhost alone",
        )),
    }
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An error of the client in words, without the URL.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "the time for one attempt was over (--timeout)".to_owned();
    }
    in_words(error)
}

fn in_seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests;
