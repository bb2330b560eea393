//! A private Postgres.

use stack::{
    Profile, Project, database,
    postgres::{Durability, Postgres},
};

fn profile(name: &str) -> Profile {
    Profile::fresh(&Project::find().unwrap(), &format!("it/{name}")).unwrap()
}

#[test]
fn committed_data_survives_a_restart_and_a_kill() {
    let profile = profile("postgres");
    let mut postgres = Postgres::start(&profile, Durability::PowerLoss).unwrap();
    postgres.ensure_database("kept").unwrap();
    postgres.ensure_database("kept").unwrap();

    postgres.restart(&profile).unwrap();
    assert_eq!(databases_called_kept(&postgres), "1");

    postgres.process().kill().unwrap();
    postgres.restart(&profile).unwrap();
    assert_eq!(databases_called_kept(&postgres), "1");

    postgres.stop().unwrap();
    let mut again = Postgres::start(&profile, Durability::PowerLoss).unwrap();
    assert_eq!(databases_called_kept(&again), "1");
    again.stop().unwrap();
}

#[test]
fn a_pid_file_of_another_program_does_not_stop_a_start() {
    let profile = profile("postgres-stale");
    let mut postgres = Postgres::start(&profile, Durability::ProcessCrash).unwrap();
    let data = ask(&postgres, "SHOW data_directory");
    postgres.stop().unwrap();
    // Our own pid: it runs, and it is not Postgres.
    let stale = format!("{}\n{data}\n0\n5432\n\n127.0.0.1\n", std::process::id());
    std::fs::write(std::path::Path::new(&data).join("postmaster.pid"), stale).unwrap();

    let mut again = Postgres::start(&profile, Durability::ProcessCrash).unwrap();
    assert_eq!(ask(&again, "SELECT 1"), "1");
    again.stop().unwrap();
}

fn databases_called_kept(postgres: &Postgres) -> String {
    ask(postgres, "SELECT count(*) FROM pg_database WHERE datname = 'kept'")
}

fn ask(postgres: &Postgres, sql: &str) -> String {
    database::ask(&postgres.url("postgres"), sql).unwrap()
}
