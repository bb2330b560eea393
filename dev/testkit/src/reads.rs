//! How much of a database was read, so that a test can assert that a cost is flat without measuring time.

use crate::eventually;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

/// A connection whose own reads are counted at once, and that sees those of all others.
pub struct Counted {
    /// The only connection. Its reads are known after each [`Counted::rows`].
    pub pool: PgPool,
}

impl Counted {
    /// A pool of one connection to this test's database, in the schema of the service whose pool is `like`.
    pub async fn beside(like: &PgPool) -> Self {
        let options = (*like.connect_options()).clone();
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("a connection");
        Self { pool }
    }

    /// Runs statements. Create the rows of a measurement here: another connection's reads would reach the statistics up to ten
    /// seconds late, in the middle of the measurement.
    ///
    /// # Panics
    /// If Postgres refuses them.
    pub async fn run(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.pool).await.expect(statements);
    }

    /// Waits until this is the only connection to the database. The statistics of another one are complete once it has ended.
    ///
    /// # Panics
    /// If the database cannot be queried, or another connection stays.
    pub async fn await_alone(&self) {
        const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        eventually("all other connections have ended", || async {
            let others: i64 = sqlx::query_scalar(OTHERS).fetch_one(&self.pool).await.expect("connections");
            (others == 0).then_some(())
        })
        .await;
    }

    /// As [`Counted::rows`], with all that other connections have read. It ends them, since a connection's statistics are whole
    /// only then: what is measured must open new ones by itself.
    ///
    /// # Panics
    /// If the database cannot be asked, or a connection does not come to rest.
    pub async fn rows_of_all(&self) -> i64 {
        const OTHERS: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        // A connection in the middle of its work is waited for, so that nothing is cut off.
        const END_IDLE: &str =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY($1) AND state = 'idle'";
        let others: Vec<i32> = sqlx::query_scalar(OTHERS).fetch_all(&self.pool).await.expect("connections");
        eventually("the connections have ended", || async {
            sqlx::query(END_IDLE).bind(&others).execute(&self.pool).await.expect("connections");
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)")
                .bind(&others)
                .fetch_one(&self.pool)
                .await
                .expect("connections");
            (left == 0).then_some(())
        })
        .await;
        self.rows().await
    }

    /// Rows and index entries that all connections of the database have read so far. Those of other connections are included up
    /// to ten seconds late.
    pub async fn rows(&self) -> i64 {
        let mut connection = self.pool.acquire().await.expect("a connection");
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(&mut *connection).await.expect("flushed");
        sqlx::query_scalar(
            "SELECT ((SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables)
                 + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes))::bigint",
        )
        .fetch_one(&mut *connection)
        .await
        .expect("statistics")
    }
}
