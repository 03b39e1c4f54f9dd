//! `tandem user`: app users of the database, through a running gateway or, where none runs, in the database itself.

use super::output::{self, Failure, Outcome, Table, shown};
use super::remote::{self, Remote, converse};
use crate::admin::client::{Client, ClientError, escape};
use crate::admin::control::{UserSource, UserView};
use crate::admin::users::{NewPassword, NewUser, credentials};
use crate::app;
use crate::config::Config;
use crate::store::{Store, StoreError};
use crate::types::{E164, Now};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{self, BufRead, IsTerminal, Write};

/// App users: those of the file are shown, those of the database added, changed and removed
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(List),
    Add(Add),
    Passwd(Passwd),
    Remove(Remove),
}

/// Show all app users
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem user list --config /etc/tandem/tandem.toml")]
struct List {
    #[command(flatten)]
    remote: Remote,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Add an app user to the database
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: tandem user add carol --caller-id +3225550003 --did +3225550003 --password env:CAROL\n\n\
                        Without --password it is asked for, or read from standard input."
)]
struct Add {
    #[command(flatten)]
    remote: Remote,
    /// Up to 64 letters, digits, - _ and .
    name: String,
    /// Literal, env:NAME or file:PATH
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// A number it may present; the first is the default
    #[arg(long = "caller-id", value_name = "NUMBER")]
    caller_ids: Vec<E164>,
    /// A number that rings it
    #[arg(long = "did", value_name = "NUMBER")]
    dids: Vec<E164>,
    /// Who pays [default: default]
    #[arg(long)]
    account: Option<String>,
    /// Calls at once [default: limits.max_calls_per_user]
    #[arg(long, value_name = "N")]
    max_calls: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Give an app user of the database a new password
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem user passwd carol --password file:carol.secret\n\n\
                        Without --password it is asked for, or read from standard input.")]
struct Passwd {
    #[command(flatten)]
    remote: Remote,
    name: String,
    /// Literal, env:NAME or file:PATH
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Remove an app user from the database; its running calls go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tandem user remove carol")]
struct Remove {
    #[command(flatten)]
    remote: Remote,
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
struct Users {
    users: Vec<UserView>,
}

pub fn run(args: Args) -> Outcome {
    crate::runtime::keep_to_ourselves();
    match args.action {
        Action::List(args) => list(&args),
        Action::Add(args) => add(args),
        Action::Passwd(args) => passwd(args),
        Action::Remove(args) => remove(&args),
    }
}

fn list(args: &List) -> Outcome {
    let users = converse(either(
        &args.remote,
        async |client| Ok(client.get::<Users>("/api/v1/users", &[]).await?.users),
        async |config, store| {
            let stored = store.users().await?;
            let users = config.file_users().into_iter().chain(stored.into_iter().map(|stored| stored.user));
            let mut users: Vec<UserView> = users.map(|user| UserView::of(&user, None)).collect();
            users.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(users)
        },
    ))?;
    if args.json { output::print_json(&Users { users }) } else { output::print(&table(&users)) }
}

fn add(args: Add) -> Outcome {
    let new = NewUser {
        password: password(args.password.as_deref(), &args.name)?,
        name: args.name,
        caller_ids: args.caller_ids,
        dids: args.dids,
        account: args.account,
        max_calls: args.max_calls,
    };
    let added = converse(either(
        &args.remote,
        async |client| Ok(client.send::<UserView>("POST", "/api/v1/users", Some(&new)).await?),
        async |config, store| {
            let stored = new.clone().stored(&config.sip.realm).map_err(Failure::Failed)?;
            refuse_twins(config, &new)?;
            store.add_user(Now::read().unix_ms, &stored).await?;
            Ok(UserView::of(&stored.user, None))
        },
    ))?;
    if args.json {
        output::print_json(&added)
    } else {
        output::print(&format!("user {} added\n", added.name))
    }
}

fn passwd(args: Passwd) -> Outcome {
    let new = NewPassword { password: password(args.password.as_deref(), &args.name)? };
    let path = format!("/api/v1/users/{}/password", escape(&args.name));
    converse(either(
        &args.remote,
        async |client| Ok(client.send::<()>("PUT", &path, Some(&new)).await?),
        async |config, store| {
            refuse_file(config, &args.name)?;
            let realm = &config.sip.realm;
            let credentials =
                credentials(&args.name, realm, new.password.clone()).map_err(Failure::Failed)?;
            Ok(store.set_credentials(Now::read().unix_ms, &args.name, realm, &credentials).await?)
        },
    ))?;
    done(args.json, &args.name, "has a new password")
}

fn remove(args: &Remove) -> Outcome {
    let path = format!("/api/v1/users/{}", escape(&args.name));
    converse(either(
        &args.remote,
        async |client| Ok(client.send::<()>("DELETE", &path, None::<&()>).await?),
        async |config, store| {
            refuse_file(config, &args.name)?;
            Ok(store.remove_user(&args.name).await?)
        },
    ))?;
    done(args.json, &args.name, "removed")
}

fn done(json: bool, name: &str, what: &str) -> Outcome {
    if json {
        output::print_json(&json!({ "name": name }))
    } else {
        output::print(&format!("user {name} {what}\n"))
    }
}

/// Asks the gateway; where none answers and a configuration is named, works on its database.
async fn either<T>(
    remote: &Remote,
    through_gateway: impl AsyncFnOnce(&Client) -> Result<T, Asked>,
    in_database: impl AsyncFnOnce(&Config, &Store) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = remote.configuration()?;
    let why = if remote.admin.is_none() && config.as_ref().is_some_and(|config| config.admin.listen.is_none())
    {
        "this gateway has no admin API".to_owned()
    } else {
        match through_gateway(&remote.client()?).await {
            Ok(answer) => return Ok(answer),
            Err(Asked(error @ ClientError::Unreachable { .. })) => error.to_string(),
            Err(Asked(error)) => return Err(error.into()),
        }
    };
    let Some(config) = config else {
        return Err(Failure::Failed(format!(
            "{why}; name the configuration with --config to work on its database"
        )));
    };
    let _ = writeln!(io::stderr(), "{why}: working on its database");
    let store = app::store(&config)?;
    let answer = in_database(&config, &store).await;
    store.close().await;
    answer
}

/// An answer of the gateway that is not the one asked for.
struct Asked(ClientError);

impl From<ClientError> for Asked {
    fn from(error: ClientError) -> Asked {
        Asked(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Failed(error.to_string())
    }
}

/// The database can't know what the file holds, and a name or DID in both places would stop the next start.
fn refuse_twins(config: &Config, new: &NewUser) -> Result<(), Failure> {
    refuse_file(config, &new.name)?;
    for user in &config.users {
        if let Some(did) = new.dids.iter().find(|did| user.dids.contains(did)) {
            return Err(Failure::Failed(format!("{did} rings \"{}\" already", user.name)));
        }
    }
    Ok(())
}

fn refuse_file(config: &Config, name: &str) -> Result<(), Failure> {
    if config.users.iter().any(|user| user.name == name) {
        let message = format!("user \"{name}\" stands in the configuration file: change it there");
        return Err(Failure::Failed(message));
    }
    Ok(())
}

/// The password as given, or asked for. What is typed on a terminal is not shown.
fn password(given: Option<&str>, name: &str) -> Result<String, Failure> {
    if let Some(written) = given {
        return Ok(remote::secret(written)?.expose().to_owned());
    }
    let terminal = io::stdin().is_terminal();
    if terminal {
        let _ = write!(io::stderr(), "Password of {name}: ");
        let _ = io::stderr().flush();
    }
    let hidden = terminal.then(Hidden::start).flatten();
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    if hidden.is_some() {
        let _ = writeln!(io::stderr());
    }
    read.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal without echo, for as long as this lives.
struct Hidden {
    before: libc::termios,
}

impl Hidden {
    fn start() -> Option<Hidden> {
        let mut before = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: tcgetattr fills the struct when it returns 0, and tcsetattr only reads it.
        unsafe {
            if libc::tcgetattr(libc::STDIN_FILENO, before.as_mut_ptr()) != 0 {
                return None;
            }
            let before = before.assume_init();
            let quiet = libc::termios { c_lflag: before.c_lflag & !libc::ECHO, ..before };
            (libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &quiet) == 0).then_some(Hidden { before })
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // SAFETY: the struct came from tcgetattr.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &self.before) };
    }
}

fn table(users: &[UserView]) -> String {
    let mut table = Table::new(&["NAME", "FROM", "CALLER IDS", "DIDS", "ACCOUNT", ">REGISTERED"]);
    for user in users {
        table.row([
            user.name.clone(),
            match user.source {
                UserSource::File => "file".to_owned(),
                UserSource::Database => "database".to_owned(),
            },
            user.caller_ids.join(" "),
            user.dids.join(" "),
            shown(user.account.as_ref()),
            shown(user.registrations),
        ]);
    }
    format!("{table}{} user{}\n", users.len(), if users.len() == 1 { "" } else { "s" })
}
