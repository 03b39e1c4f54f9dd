//! Which gateway a command asks, and with which token.

use super::Failure;
use crate::admin::client::Client;
use crate::types::Secret;
use std::future::Future;

/// Where the gateway's own example configuration puts the API.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

#[derive(Debug, Clone, clap::Args)]
pub struct Remote {
    /// Address of the admin API [default: $TANDEM_ADMIN_URL, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Its token: literal, env:NAME or file:PATH [default: $TANDEM_ADMIN_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

impl Remote {
    pub fn client(&self) -> Result<Client, Failure> {
        let url = self.admin.clone().or_else(|| std::env::var("TANDEM_ADMIN_URL").ok());
        let token = match &self.token {
            Some(written) => secret(written)?,
            None => Secret::new(std::env::var("TANDEM_ADMIN_TOKEN").unwrap_or_default()),
        };
        Ok(Client::new(url.as_deref().unwrap_or(DEFAULT_URL), token)?)
    }
}

/// A secret as the command line takes it: literal, `env:NAME` or `file:PATH`.
pub fn secret(written: &str) -> Result<Secret, Failure> {
    if let Some(name) = written.strip_prefix("env:") {
        let value = std::env::var(name).map_err(|_| Failure::Usage(format!("the variable {name} is not set")))?;
        return Ok(Secret::new(value));
    }
    if let Some(path) = written.strip_prefix("file:") {
        let read = std::fs::read_to_string(path);
        let value = read.map_err(|error| Failure::Usage(format!("{path} can't be read: {error}")))?;
        return Ok(Secret::new(value.trim_end_matches(['\r', '\n'])));
    }
    Ok(Secret::new(written))
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
    fn a_secret_is_literal_or_comes_from_the_environment_or_a_file() {
        let file = std::env::temp_dir().join(format!("tandem-secret-{}", std::process::id()));
        std::fs::write(&file, "from a file\r\n").unwrap();
        let from_file = secret(&format!("file:{}", file.display()));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(from_file.unwrap().expose(), "from a file");
        assert_eq!(secret("plain").unwrap().expose(), "plain");
        assert_eq!(secret("env:PATH").unwrap().expose(), std::env::var("PATH").unwrap());
        assert_eq!(secret("env:TANDEM_SURELY_UNSET").unwrap_err().exit_code(), 2);
        assert_eq!(secret("file:/nonexistent").unwrap_err().exit_code(), 2);
    }
}
