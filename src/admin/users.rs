//! `/api/v1/users`: app users of the file and the database; those of the database are added, changed and removed here.

use super::access::{Caller, Role};
use super::control::{ControlCommand, UserSource, UserView};
use super::endpoint::{Answer, Endpoint};
use super::extract::{At, Body};
use super::{Admin, Problem, Shared};
use crate::access::{self, Credentials, User};
use crate::config::user_name;
use crate::store::StoredUser;
use crate::types::{E164, Now, Secret};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use serde::{Deserialize, Serialize};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "GET",
        path: "/api/v1/users",
        role: Some(Role::Read),
        summary: "All app users, by name",
        query: &[],
        body: None,
        answer: Answer::List("users", "User"),
        problems: &[],
        handler: || get(list),
    },
    Endpoint {
        method: "POST",
        path: "/api/v1/users",
        role: Some(Role::Admin),
        summary: "Add an app user to the database",
        query: &[],
        body: Some("NewUser"),
        answer: Answer::Created("User"),
        problems: &[400, 404, 409, 422],
        handler: || post(add),
    },
    Endpoint {
        method: "GET",
        path: "/api/v1/users/{name}",
        role: Some(Role::Read),
        summary: "One app user",
        query: &[],
        body: None,
        answer: Answer::Json("User"),
        problems: &[404],
        handler: || get(show),
    },
    Endpoint {
        method: "PUT",
        path: "/api/v1/users/{name}",
        role: Some(Role::Admin),
        summary: "Give an app user of the database other numbers, account and limit; its password stays",
        query: &[],
        body: Some("UserSettings"),
        answer: Answer::Json("User"),
        problems: &[400, 404, 409, 422],
        handler: || put(change),
    },
    Endpoint {
        method: "PUT",
        path: "/api/v1/users/{name}/password",
        role: Some(Role::Admin),
        summary: "Give an app user of the database a new password; its registrations stay until they expire",
        query: &[],
        body: Some("NewPassword"),
        answer: Answer::Nothing,
        problems: &[400, 404, 409, 422],
        handler: || put(change_password),
    },
    Endpoint {
        method: "DELETE",
        path: "/api/v1/users/{name}",
        role: Some(Role::Admin),
        summary: "Remove an app user from the database: it keeps running calls and loses its registrations",
        query: &[],
        body: None,
        answer: Answer::Nothing,
        problems: &[404, 409],
        handler: || delete(remove),
    },
];

/// What a new user is made of. Only HA1 of the password is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    pub name: String,
    pub password: String,
    // The fields of `UserSettings`, written out: serde's flatten would let unknown keys through.
    #[serde(default)]
    pub caller_ids: Vec<E164>,
    #[serde(default)]
    pub dids: Vec<E164>,
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub max_calls: Option<u32>,
}

/// What may change of a user. What is absent is empty, not as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
    /// Numbers it may present; the first is the default.
    #[serde(default)]
    pub caller_ids: Vec<E164>,
    /// Numbers that ring it.
    #[serde(default)]
    pub dids: Vec<E164>,
    /// `default` if absent.
    #[serde(default)]
    pub account: Option<String>,
    /// Its own limit of calls at once; the gateway's if absent.
    #[serde(default)]
    pub max_calls: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    pub password: String,
}

impl NewUser {
    /// The user as the database keeps it.
    ///
    /// # Errors
    /// What is wrong with name or password, in words.
    pub fn stored(self, realm: &str) -> Result<StoredUser, String> {
        user_name(&self.name)?;
        let NewUser { name, password, caller_ids, dids, account, max_calls } = self;
        let credentials = credentials(&name, realm, password)?;
        let settings = UserSettings { caller_ids, dids, account, max_calls };
        Ok(StoredUser { user: settings.user(&name, credentials), realm: realm.to_owned() })
    }
}

impl UserSettings {
    fn user(self, name: &str, credentials: Credentials) -> User {
        User {
            name: name.into(),
            credentials,
            caller_ids: self.caller_ids,
            dids: self.dids,
            account: self.account.unwrap_or_else(|| "default".to_owned()),
            max_calls: self.max_calls,
            place: Default::default(),
            source: access::UserSource::Database,
        }
    }
}

/// HA1 of a password.
///
/// # Errors
/// An empty password would let everybody in.
pub fn credentials(name: &str, realm: &str, password: String) -> Result<Credentials, String> {
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    Ok(Credentials::new(name, realm, &Secret::new(password)))
}

#[derive(Serialize)]
struct Users {
    users: Vec<UserView>,
}

async fn list(State(admin): State<Shared>, caller: Caller) -> Result<Json<Users>, Problem> {
    let users = known(&admin).await?;
    Ok(Json(Users { users: users.into_iter().map(|user| shown(user, &caller)).collect() }))
}

async fn show(
    State(admin): State<Shared>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<UserView>, Problem> {
    let user = known(&admin).await?.into_iter().find(|user| user.name == name);
    user.map(|user| Json(shown(user, &caller))).ok_or_else(|| unknown(&name))
}

async fn add(
    State(admin): State<Shared>,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let name = new.name.clone();
    let new = new.stored(&(admin.realm)()).map_err(Problem::unprocessable)?;
    if known(&admin).await?.iter().any(|user| user.name == name) {
        return Err(Problem::conflict(format!("user \"{name}\" exists already")));
    }
    free(&admin, &name, &new.user.dids).await?;
    admin.store.add_user(Now::read().unix_ms, &new).await?;
    take_up(&admin).await?;
    let user = known(&admin).await?.into_iter().find(|user| user.name == name);
    user.map(|user| (StatusCode::CREATED, Json(user))).ok_or_else(|| unknown(&name))
}

async fn change(
    State(admin): State<Shared>,
    At(name): At<String>,
    Body(settings): Body<UserSettings>,
) -> Result<Json<UserView>, Problem> {
    writable(&admin, &name).await?;
    free(&admin, &name, &settings.dids).await?;
    let nothing = Credentials { md5: String::new(), sha256: String::new() };
    admin.store.set_user(Now::read().unix_ms, &settings.user(&name, nothing)).await?;
    take_up(&admin).await?;
    let user = known(&admin).await?.into_iter().find(|user| user.name == name);
    user.map(Json).ok_or_else(|| unknown(&name))
}

async fn change_password(
    State(admin): State<Shared>,
    At(name): At<String>,
    Body(new): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    writable(&admin, &name).await?;
    let realm = (admin.realm)();
    let credentials = credentials(&name, &realm, new.password).map_err(Problem::unprocessable)?;
    admin.store.set_credentials(Now::read().unix_ms, &name, &realm, &credentials).await?;
    take_up(&admin).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(admin): State<Shared>, At(name): At<String>) -> Result<StatusCode, Problem> {
    writable(&admin, &name).await?;
    admin.store.remove_user(&name).await?;
    take_up(&admin).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Users of the file win and are read-only.
async fn writable(admin: &Admin, name: &str) -> Result<(), Problem> {
    let in_file = |user: &UserView| user.name == name && user.source == UserSource::File;
    if known(admin).await?.iter().any(in_file) {
        return Err(Problem::conflict(format!(
            "user \"{name}\" stands in the configuration file: change it there"
        )));
    }
    Ok(())
}

/// The database can't know which DIDs the file gives away, and one in both places would stop the next start.
async fn free(admin: &Admin, name: &str, dids: &[E164]) -> Result<(), Problem> {
    let taken = |user: &&UserView| {
        user.name != name && dids.iter().any(|did| user.dids.iter().any(|d| d == did.as_str()))
    };
    match known(admin).await?.iter().find(taken) {
        Some(other) => Err(Problem::conflict(format!("one of these DIDs rings \"{}\" already", other.name))),
        None => Ok(()),
    }
}

async fn known(admin: &Admin) -> Result<Vec<UserView>, Problem> {
    Ok(admin.control.ask(|reply| ControlCommand::Users { reply }).await?)
}

/// Makes the gateway read the database's users again.
async fn take_up(admin: &Admin) -> Result<(), Problem> {
    let taken = admin.control.ask(|reply| ControlCommand::UsersChanged { reply }).await?;
    taken.map_err(|why| Problem::unavailable(format!("the change is stored, but not yet taken up: {why}")))
}

fn shown(user: UserView, caller: &Caller) -> UserView {
    if caller.sees_numbers() { user } else { user.masked() }
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("there is no user \"{name}\""))
}
