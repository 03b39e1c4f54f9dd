//! Takes up a changed configuration as a whole, or not at all.

use super::control::{self, Context, directory};
use super::setup;
use crate::admin::control::ReloadReport;
use crate::call::Settings;
use crate::call::io::Fetching;
use crate::config::{Config, Loaded, Reloaded};
use std::sync::Arc;

/// Reads the configuration again. On an error the old state stays and the report says why.
pub async fn reload(context: &Context) -> ReloadReport {
    let Some(path) = context.path.clone() else {
        return refused(vec!["this gateway was not started from a file".to_owned()]);
    };
    let read = tokio::task::spawn_blocking(move || Config::load(&path)).await;
    let Loaded { config, dialplan, warnings, .. } = match read {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(problems)) => return refused(problems.iter().map(ToString::to_string).collect()),
        Err(error) => return refused(vec![error.to_string()]),
    };
    let old = context.settings.borrow().clone();
    let directory = match directory(&config, &context.store).await {
        Ok(directory) => directory,
        Err(error) => return refused(vec![error]),
    };
    let rates = match setup::rates(&config) {
        Ok(rates) => Arc::new(rates),
        Err(error) => return refused(vec![error]),
    };
    let stir = match setup::stir(&config) {
        Ok(stir) => stir,
        Err(error) => return refused(vec![error.to_string()]),
    };
    let changed = changed(&old, &config);
    let tls = setup::tls(&config);
    let Reloaded { config, not_taken } = match old.config.reload(config) {
        Ok(reloaded) => reloaded,
        Err(problems) => return refused(problems.iter().map(ToString::to_string).collect()),
    };
    // From here on things change: whatever may refuse the whole has been asked, and the certificates come first, since
    // they are the last that may. The level's words were read with the configuration.
    if let Err(error) = context.transports.reload_certificates(&tls) {
        return refused(vec![error.to_string()]);
    }
    // Also a level that the API has changed meanwhile goes back to the file's.
    if config.log.level != context.log.level()
        && let Err(error) = context.log.set_level(&config.log.level)
    {
        return refused(vec![error.to_string()]);
    }
    control::describe(&context.metrics, &config);
    let settings = Arc::new(Settings::new(config).with_stir(stir));
    let trace = settings.trace.clone();
    let fetching = Fetching::load(&settings);
    let (taken, directory, dialplan) = (settings.clone(), Arc::new(directory), Arc::new(dialplan));
    let done = context
        .shard
        .ask(move |shard, now| {
            shard.exchange.reload(now, taken, directory, dialplan);
            shard.rates = rates;
            shard.observer.set_trace(&trace);
            shard.certificates.fetching = fetching;
        })
        .await;
    if done.is_none() {
        return refused(vec!["the gateway is stopping".to_owned()]);
    }
    context.settings.send_replace(settings);
    tracing::info!(target: "tandem::config", ?changed, ?not_taken, "configuration reloaded");
    ReloadReport {
        accepted: true,
        changed,
        needs_restart: not_taken,
        warnings: warnings.iter().map(ToString::to_string).collect(),
        errors: Vec::new(),
    }
}

fn refused(errors: Vec<String>) -> ReloadReport {
    tracing::error!(target: "tandem::config", ?errors, "reload refused; everything stays as it was");
    ReloadReport { accepted: false, errors, ..ReloadReport::default() }
}

fn changed(old: &Config, new: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    for trunk in &new.trunks {
        match old.trunks.iter().find(|known| known.name == trunk.name) {
            None => changed.push(format!("trunk {} added", trunk.name)),
            Some(known) if known != trunk => changed.push(format!("trunk {} changed", trunk.name)),
            Some(_) => {}
        }
    }
    for trunk in &old.trunks {
        if !new.trunks.iter().any(|kept| kept.name == trunk.name) {
            changed.push(format!("trunk {} removed", trunk.name));
        }
    }
    if old.users != new.users {
        changed.push(format!("users: {} in the file", new.users.len()));
    }
    let sections = [
        ("app", old.app != new.app),
        ("registrar", old.registrar != new.registrar),
        ("limits", old.limits != new.limits),
        ("guard", old.guard != new.guard),
        ("opus", old.opus != new.opus),
        ("media", old.media != new.media),
        ("stir", old.stir != new.stir),
        ("rates", old.rates != new.rates),
        ("trace", old.trace != new.trace),
        ("log.level", old.log.level != new.log.level),
    ];
    changed.extend(
        sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| format!("{name} changed")),
    );
    changed.push("dialplan and certificates read again".to_owned());
    changed
}
