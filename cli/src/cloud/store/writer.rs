//! One thread that writes: changes that wait while one is written to the disk go into the next transaction together.

use super::transaction::Transaction;
use super::unusable;
use crate::exit::{Code, Failure};
use redb::Database;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Changes that may wait; who has more waits to hand them over.
const QUEUE: usize = 1024;
/// Changes in one transaction.
const BATCH: usize = 256;

/// A change that does not say what it gives.
trait Job: Send {
    fn run(&mut self, transaction: &mut Transaction<'_>);
    /// The transaction is on the disk, or failed.
    fn finish(self: Box<Self>, failure: Option<&Failure>);
}

struct Change<F, T> {
    change: Option<F>,
    result: Option<Result<T, Failure>>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<F, T> Job for Change<F, T>
where
    F: FnOnce(&mut Transaction<'_>) -> Result<T, Failure> + Send,
    T: Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) {
        if let Some(change) = self.change.take() {
            self.result = Some(change(transaction));
        }
    }

    fn finish(self: Box<Self>, failure: Option<&Failure>) {
        let result = match (failure, self.result) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(result)) => result,
            (None, None) => return,
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(result);
    }
}

/// The thread's other end.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(database: Arc<Database>, path: &Path) -> Result<Self, Failure> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let path = path.to_path_buf();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(&database, jobs, &path))
            .map_err(|error| {
                let what = format!("cannot start a thread: {error}");
                Failure::new(Code::Software, what, "free some memory or threads")
            })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, result) = oneshot::channel();
        let job = Box::new(Change { change: Some(change), result: None, reply });
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(job).await.map_err(|_| gone())?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(super) fn change_now<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, result) = oneshot::channel();
        let job = Box::new(Change { change: Some(change), result: None, reply });
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.blocking_send(job).map_err(|_| gone())?;
        result.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It has panicked, and whoever waited has been told.
            let _ = thread.join();
        }
    }
}

fn gone() -> Failure {
    Failure::new(Code::Software, "the database's thread is gone", "start the cloud again, and report this")
}

fn write(database: &Database, mut jobs: mpsc::Receiver<Box<dyn Job>>, path: &Path) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        let failure = commit(database, &mut batch, path).err();
        for job in batch {
            job.finish(failure.as_ref());
        }
    }
}

fn commit(database: &Database, batch: &mut [Box<dyn Job>], path: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn core::fmt::Display| unusable(path, error);
    let transaction = database.begin_write().map_err(|error| failed(&error))?;
    let mut view = Transaction::new(&transaction, path);
    for job in batch {
        job.run(&mut view);
    }
    transaction.commit().map_err(|error| failed(&error))
}
