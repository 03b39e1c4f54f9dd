//! What a process on this machine costs: processor time and memory, as the kernel counts them.

use std::fs;
use std::io;
use std::time::Duration;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// User and system time of all its threads since its start. The kernel counts in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
}

impl Cost {
    /// Looks at a process.
    ///
    /// # Errors
    /// There is no such process, or it is not ours to look at.
    pub fn of(pid: u32) -> io::Result<Cost> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        // SAFETY: sysconf only reads its argument.
        let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        let read = || {
            let ticks = u64::try_from(ticks).ok().filter(|ticks| *ticks > 0)?;
            let pages = resident_pages(&statm)?;
            Some(Cost {
                cpu: Duration::from_millis(cpu_ticks(&stat)? * 1_000 / ticks),
                memory: pages * u64::try_from(page).ok()?,
            })
        };
        read().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// utime and stime, fields 14 and 15 (proc(5)). The name in field 2 may hold spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 200";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("42 nothing"), None);
        assert_eq!(resident_pages("1000 321 5 5 0 5 0"), Some(321));
    }

    #[test]
    fn this_process_can_be_looked_at_and_no_other_made_up_one() {
        let own = Cost::of(std::process::id()).unwrap();
        assert!(own.memory > 1_000_000, "{own:?}");
        assert!(Cost::of(u32::MAX).is_err());
    }
}
