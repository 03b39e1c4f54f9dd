//! Which gateway a command asks, and with which token.

use super::Failure;
use crate::admin::client::Client;
use crate::config::{Config, Loaded, Problem, SecretSources};
use crate::types::Secret;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where the gateway's own example configuration puts the API.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const URL_VARIABLE: &str = "TANDEM_ADMIN_URL";
const TOKEN_VARIABLE: &str = "TANDEM_ADMIN_TOKEN";

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Gateway")]
pub struct Remote {
    /// Address of the admin API [default: $TANDEM_ADMIN_URL, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Its token: literal, env:NAME or file:PATH [default: $TANDEM_ADMIN_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The gateway's configuration file, to take address and token from
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Remote {
    /// The API that the options, the configuration or the environment name, in this order.
    pub fn client(&self) -> Result<Client, Failure> {
        let config = self.configuration()?;
        let from_config = config.as_ref().map(address).transpose()?;
        let url = self.admin.clone().or(from_config).or_else(|| std::env::var(URL_VARIABLE).ok());
        let token = match &self.token {
            Some(written) => Some(secret(written)?),
            None => config.and_then(|config| config.admin.token),
        };
        let token = token.unwrap_or_else(|| Secret::new(std::env::var(TOKEN_VARIABLE).unwrap_or_default()));
        Ok(Client::new(url.as_deref().unwrap_or(DEFAULT_URL), token)?)
    }

    /// The configuration file, if one is named.
    pub fn configuration(&self) -> Result<Option<Config>, Failure> {
        Ok(self.config.as_deref().map(load).transpose()?.map(|loaded| loaded.config))
    }
}

/// Reads a configuration, every problem told.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let told = |problems: Vec<Problem>| {
        Failure::Failed(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    Config::load(path).map_err(told)
}

fn address(config: &Config) -> Result<String, Failure> {
    let listen =
        config.admin.listen.ok_or_else(|| Failure::Failed("this gateway has no admin API".to_owned()))?;
    // What listens everywhere is reached here.
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(ip, listen.port())))
}

/// A secret as the command line takes it: literal, `env:NAME` or `file:PATH`.
pub fn secret(written: &str) -> Result<Secret, Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    let sources = SecretSources { environment: &environment, base: Path::new("") };
    sources.read(written).map_err(Failure::Usage)
}

/// Runs one command's conversation with a gateway.
pub fn converse<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(error.to_string()))?.block_on(conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_at_home() {
        let mut config = Config::default();
        for (listen, url) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:81", "http://[::1]:81"),
            ("192.0.2.1:8080", "http://192.0.2.1:8080"),
        ] {
            config.admin.listen = Some(listen.parse().unwrap());
            assert_eq!(address(&config).unwrap(), url);
        }
        config.admin.listen = None;
        assert_eq!(address(&config).unwrap_err().exit_code(), 1);
    }

    #[test]
    fn a_secret_that_is_not_there_is_wrong_usage() {
        assert_eq!(secret("plain").unwrap().expose(), "plain");
        assert_eq!(secret("env:TANDEM_SURELY_UNSET").unwrap_err().exit_code(), 2);
    }
}
