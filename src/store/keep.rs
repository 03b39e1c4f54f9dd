//! What the store does by itself: knows whether the database is there, and shortens numbers whose time is over.

use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::pool::Store;
use crate::types::Now;

/// How soon `/health/ready` knows that the database went or came.
const LOOK: Duration = Duration::from_secs(5);
/// Retention is a matter of days.
const RETENTION: Duration = Duration::from_secs(3_600);

impl Store {
    /// Runs as long as the gateway. `retention_days` is asked each time, as a reload may change it.
    pub async fn keep(self, retention_days: impl Fn() -> u32 + Send) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shorten_at = Instant::now();
        loop {
            look.tick().await;
            let was_up = self.is_up();
            match self.ready().await {
                Ok(()) if !was_up => tracing::info!("the database is reachable"),
                Ok(()) => {}
                Err(error) if was_up => tracing::warn!(%error, "the database is away"),
                Err(_) => continue,
            }
            if Instant::now() >= shorten_at {
                match self.shorten_numbers(Now::read().unix_ms, retention_days()).await {
                    Ok(0) => shorten_at = Instant::now() + RETENTION,
                    Ok(calls) => {
                        tracing::info!(calls, "numbers of old calls shortened");
                        shorten_at = Instant::now() + RETENTION;
                    }
                    Err(error) => tracing::warn!(%error, "numbers of old calls can't be shortened yet"),
                }
            }
        }
    }
}
