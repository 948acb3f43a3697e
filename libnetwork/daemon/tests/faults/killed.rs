//! kill -9 before every single change. After each of them the next start makes the kernel what was answered, with the
//! change that was under way done whole or not at all.
//!
//! The kernel takes a netlink message, and all that is sent in one piece with it, without looking for signals: between
//! two system calls is everywhere that a process can die.

use std::time::Instant;

use libnetwork_rpc::{client::Client, is_transport};

use crate::{
    host::Host,
    process::{Process, kill_before, proceed, ready},
    walk::{FOREIGN, STEPS, clear, comes_to, references, step},
};

/// Goes through the steps until the process dies; how many of them were answered.
async fn walk(client: &mut Client) -> usize {
    for number in 0..STEPS {
        match step(client, number).await {
            Ok(()) => {}
            Err(status) if is_transport(&status) => return number,
            Err(status) => panic!("step {number}: {status}"),
        }
    }
    STEPS
}

/// Every `stride`-th change from `first` on, up to the last there is. How many there were.
async fn kill_before_each(first: usize, stride: usize) -> usize {
    let host = Host::new("every");
    host.sh(FOREIGN);
    let mut process = Process::start(&host, proceed);
    let mut client = ready(&host).await;
    let references = references(&host, &mut client).await;
    let mut kills = 0;
    for change in (first..).step_by(stride) {
        process.judge(kill_before(change));
        let answered = walk(&mut client).await;
        if answered == STEPS {
            break;
        }
        assert!(process.killed());
        kills += 1;
        // Some of the starts that make it good again are killed themselves, each a little later.
        if kills % 4 == 0 && Process::start(&host, kill_before(kills / 4)).dies_starting(&host).await {
            kills += 1;
        }
        process = Process::start(&host, proceed);
        client = ready(&host).await;
        let wanted = &references[answered..=(answered + 1).min(STEPS)];
        let when = format!("killed before change {change}, in step {answered}");
        comes_to(&host, &mut client, wanted, &when).await;
        clear(&mut client).await;
    }
    process.judge(proceed);
    comes_to(&host, &mut client, &references[..1], "in the end").await;
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_before_every_change_the_next_start_makes_it_whole_or_not_at_all() {
    let begun = Instant::now();
    // On two hosts at a time.
    let halves = [0, 1].map(|half| tokio::spawn(kill_before_each(half, 2)));
    let mut kills = 0;
    for half in halves {
        kills += half.await.unwrap();
    }
    eprintln!("{kills} kills in {:?}", begun.elapsed());
    assert!(kills > 100, "{kills}");
}
