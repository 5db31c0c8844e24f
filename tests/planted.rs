//! Each guarantee's test is run once more with a bug that breaks the guarantee, and has to fail, for the right reason.

use std::{env, process::Command};

use crate::stand::PLANTED;

/// Runs a test of this binary by its name, whole where it takes samples.
fn is_caught(bug: &str, test: &str, complaint: &str) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(PLANTED, bug)
        .env("MIRRORLET_TORTURE", "whole")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("running 1 test"), "there is no test {test}:\n{said}");
    assert!(!output.status.success(), "{test} does not notice the bug {bug}:\n{said}");
    assert!(said.contains(complaint), "{test} fails with the bug {bug}, but does not say {complaint:?}:\n{said}");
}

/// What the bugs are caught by is no mere consequence of planting: with a bug that nobody knows the tests pass.
#[test]
fn no_bug_is_not_caught() {
    for test in ["cases_plan::every_case_is_as_written", "operators::containerd_does_not_come_back::on_17"] {
        let output = Command::new(env::current_exe().unwrap()).args(["--exact", test]).env(PLANTED, "none").output().unwrap();
        assert!(output.status.success(), "{test}: {output:?}");
    }
}

macro_rules! planted {
    ($($name:ident: $bug:literal, $test:literal, $complaint:literal;)*) => {
        $(
            #[test]
            fn $name() {
                is_caught($bug, $test, $complaint);
            }
        )*

        /// Every bug that the code knows has a line here, and there are no others.
        #[test]
        fn every_bug_has_its_test() {
            let listed = std::collections::BTreeSet::from([$($bug),*]);
            assert_eq!(listed, in_the_code().iter().map(String::as_str).collect());
            assert_eq!(listed.len(), [$($bug),*].len(), "a bug is listed twice");
        }
    };
}

fn in_the_code() -> std::collections::BTreeSet<String> {
    let output =
        Command::new("grep").args(["-rhoE", "planted::has\\(\"[a-z-]+\"\\)", concat!(env!("CARGO_MANIFEST_DIR"), "/src")]).output();
    let found = String::from_utf8(output.unwrap().stdout).unwrap();
    found.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

planted! {
    a_file_that_is_not_synced: "file-not-synced", "torture::power::ext4_no_auto_da_alloc::first_install", "first-install: cut at";
    a_directory_that_is_not_synced: "directory-not-synced", "torture::names::every_name_is_synced_before_one_changes_elsewhere", "not synced";
    a_file_written_in_place: "written-in-place", "torture::reader::a_reader_never_sees_half_a_change", "hosts.toml";
    effects_without_a_journal: "no-journal", "torture::faults::first_install::killed", "neither before nor after";
    an_unfinished_change_taken_for_finished: "unfinished-counts-as-finished", "torture::faults::first_install::killed", "neither before nor after";
    temporary_names_that_stay: "temporary-names-stay", "cases_plan::every_case_is_as_written", ".mirrorlet.";
    an_undo_that_takes_their_edit: "undo-takes-their-edit", "daemon::an_edit_during_an_apply_that_fails_costs_nothing", "the edit is gone";
    a_restart_nobody_needs: "needless-restart", "daemon::drift_is_repaired_without_a_restart", "nobody needs a restart for this";
    an_undo_that_does_not_restart: "undone-without-restart", "operators::cri_dead_after_restart::on_17", "there and back";
    a_failed_spec_that_is_tried_again: "failed-spec-not-parked", "operators::cri_dead_after_restart::on_17", "rolled-back";
    a_config_that_was_not_tried: "no-trial", "operators::a_config_that_kills_the_cri_is_found_beforehand::on_17", "never tried";
    a_drop_in_that_slipped_in: "edit-during-trial", "operators::a_drop_in_during_the_trial_is_not_restarted_with::on_17", "changed: generation 1 is in effect";
    an_upgrade_that_slipped_in: "others-not-asked", "operators::what_others_changed_waits_for_a_word::on_17", "never refused";
    host_directories_that_were_not_shown: "no-staging", "staged::a_client_pair_that_is_none_is_found_beforehand", "never refused";
    a_trial_that_starts_plugins: "plugins-in-trial", "operators::a_trial_starts_no_plugins", "a trial started a plugin";
    a_restart_in_the_middle_of_a_pull: "no-quiet-moment", "operators::a_restart_waits_for_a_quiet_moment::on_17", "never containerd-sick";
    a_state_taken_for_good_before_its_proof: "good-before-proof", "operators::containerd_does_not_come_back::on_17", "was never good";
    a_hold_that_is_forgotten: "no-hold", "operators::disabled_stays_disabled::on_17", "held";
    a_change_that_is_not_watched: "not-watched", "daemon::what_somebody_applies_is_watched_for_a_while", "not watched";
    events_that_are_lost: "overflow-unseen", "drift::events_that_the_kernel_has_no_room_for_are_made_up_for", "never seen";
    a_timer_that_is_not_set: "no-timer", "torture::confirm::a_dead_daemon_does_not_keep_it", "too late";
    a_dry_run_that_disarms: "dry-run-disarms", "torture::confirm::nothing_but_its_own_confirmation_disarms_it", "it does not wait any more";
    any_number_that_confirms: "any-number-confirms", "torture::confirm::nothing_but_its_own_confirmation_disarms_it", "another one is confirmed";
    an_expiry_without_a_hold: "no-hold-after-expiry", "torture::confirm::what_nobody_confirms_is_gone_back_from", "never held";
}
