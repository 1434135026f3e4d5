"""What the Go provider gets wrong or leaves open, and the tests that fail where it would come back.

Of connections, repositories, deploy keys and collaborators; a test's name says where to look (``git grep``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = ("libs", "services", "tests", "tools")

LESSONS: Final[Mapping[str, tuple[str, ...]]] = {
    "a repository for an organisation that the token cannot see is made in the token owner's account": (
        "test_nothing_is_created_for_an_owner_that_the_host_does_not_show",
        "test_an_organisation_that_cannot_be_seen_gets_nothing_and_neither_does_the_personal_account",
        "test_an_organisation_hidden_from_the_token_is_not_replaced_by_the_personal_account",
        "test_nothing_is_created_in_another_users_account",
        "test_a_repository_for_an_organisation_that_cannot_be_seen_is_made_nowhere",
    ),
    "edits of description, visibility and default branch are accepted and never sent": (
        "test_settings",
        "test_only_the_changed_settings_are_changed",
        "test_an_edit_of_visibility_is_not_forgotten_when_the_host_fails",
        "test_an_edit_of_description_and_visibility_reaches_the_host",
    ),
    "internal visibility is sent without a look at the owner": (
        "test_an_internal_repository_is_not_asked_for_in_a_users_account",
        "test_an_organisation_without_an_enterprise_gets_no_internal_repository",
        "test_an_enterprise_organisation_gets_an_internal_repository",
        "test_a_repository_is_made_where_its_owner_is_and_private_unless_told_otherwise",
    ),
    "the default branch goes into the body of a create, where GitHub ignores it": (
        "test_the_body_of_a_create_says_the_visibility_in_both_of_its_forms",
        "test_the_default_branch_is_switched_to_one_that_exists",
        "test_a_branch_that_does_not_exist_yet_is_pending_and_does_not_keep_it_from_ready",
    ),
    "what changes on the host is never noticed": (
        "test_no_object_waits_longer_than_the_interval_for_its_turn",
        "test_settled_objects_have_their_turn_in_the_resync",
        "test_what_somebody_changes_on_the_host_is_repaired",
        "test_a_key_removed_on_the_host_comes_back_as_it_was",
        "test_a_changed_permission_and_drift_are_repaired",
    ),
    "a connection is validated once: a network that works again stays red, a revoked token green": (
        "test_every_look_asks_the_host_so_that_a_revoked_token_turns_red_and_one_that_works_again_green",
        "test_a_host_that_is_down_does_not_unmake_a_validated_connection",
        "test_a_rejected_credential_asks_the_connection_to_validate_itself_once_a_minute",
        "test_a_401_that_a_repository_meets_turns_its_connection_at_once",
        "test_wrong_then_wrong_again_then_right_token_each_changes_the_verdict",
    ),
    "whatever the object refers to is deleted on the host, also what it only found there": (
        "test_what_we_adopted_stays_on_the_host",
        "test_an_adopted_key_stays_unless_delete_is_asked_for",
        "test_access_given_by_hand_stays",
        "test_deletion_policies_say_what_happens_on_the_host",
    ),
    "without connection or credential an object goes and silently leaves its like on the host": (
        "test_without_its_credential_the_object_stays_and_says_how_to_release_it",
        "test_without_the_credential_the_object_stays_and_says_how_to_let_go",
        "test_a_connection_stays_while_a_repository_of_ours_refers_to_it",
        "test_a_connection_stays_while_a_child_of_its_repository_needs_it",
        "test_deleted_while_the_credential_is_gone_stays_and_says_what_to_do",
    ),
    "a deploy key may write unless told otherwise": (
        "test_a_generated_pair_is_stored_before_it_is_registered_and_mounted_only_after",
        "test_a_generated_pair_lives_in_a_secret_that_is_owned_and_goes_with_the_object",
    ),
    "one page of deploy keys is read": ("test_every_page_of_keys_is_read",),
    "a deploy key with another title or access passes for the one that is wanted": (
        "test_a_new_title_or_access_is_delete_then_create",
        "test_a_given_key_follows_its_spec_and_comes_back_when_somebody_removes_it",
    ),
    "new material for a deploy key leaves the old key on the host": (
        "test_new_material_goes_in_before_the_old_goes_out",
        "test_an_old_key_whose_removal_fails_is_not_forgotten",
        "test_a_key_that_a_rotation_replaced_goes_too",
    ),
    "a deploy key is never rotated": (
        "test_a_pair_that_is_old_enough_is_replaced_and_the_old_key_works_a_while_longer",
        "test_a_generated_pair_is_rotated_and_the_old_key_works_a_while_longer",
    ),
    "a private key can be mounted before it opens anything": (
        "test_until_the_key_is_registered_consumers_find_no_private_key",
        "test_a_pair_whose_replacement_is_refused_stays_where_consumers_look",
    ),
    "collaborators have three roles": (
        "test_a_member_of_the_organisation_is_granted_each_role_at_once",
        "test_a_custom_role_is_granted_where_the_organisation_has_it",
        "test_a_widened_field_takes_every_value_of_the_go_provider",
        "test_roles_are_compared_by_name_custom_ones_too",
    ),
    "another username leaves the grant of the former one": (
        "test_identities_and_references_are_immutable_and_say_what_to_do",
        "test_what_identifies_an_object_cannot_change_and_the_refusal_says_what_to_do",
        "test_a_username_cannot_change",
    ),
    "an invitation is never looked at again": (
        "test_a_stranger_is_invited_and_the_acceptance_is_noticed_without_a_change_of_spec",
        "test_an_invitation_is_pending_until_the_user_accepts_which_is_noticed_without_a_change",
    ),
    "an expired invitation is never sent again": ("test_an_expired_invitation_is_sent_anew_three_times_at_most",),
    "one page of invitations is read": ("test_every_page_of_collaborators_and_invitations_is_read",),
    "references and names can be edited into those of another object": (
        "test_identities_and_references_are_immutable_and_say_what_to_do",
        "test_what_identifies_an_object_cannot_change_and_the_refusal_says_what_to_do",
    ),
    "an App makes a token per pass and cannot begin with an empty installation": (
        "test_however_many_ask_first_and_however_often_it_is_opened_one_token_is_made",
        "test_a_token_is_kept_while_it_lives_and_not_longer",
        "test_an_app_is_its_installation_on_the_owner_and_creates_there",
    ),
    "unchanged answers are paid for in full": (
        "test_what_has_not_changed_costs_a_304_and_reads_the_same",
        "test_a_304_hides_no_drift",
    ),
    "tenants share what they should not": (
        "test_nothing_is_shared_between_credentials_addresses_or_media_types",
        "test_same_named_objects_of_two_tenants_never_meet",
        "test_credentials_and_private_keys_are_in_their_own_secrets_and_nowhere_else",
    ),
    "nothing can be measured": ("test_each_child_tells_its_health_and_its_metrics",),
}


TEST: Final = re.compile(r"^(?:async )?def (test_\w+)", re.M)


@cache
def names_of_tests() -> frozenset[str]:
    """Their names. They are read when a test asks for them, because each worker imports this module."""
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("test_*.py"))
    return frozenset(name for path in files for name in TEST.findall(path.read_text()))


@pytest.mark.parametrize("lesson", LESSONS)
def test_what_was_learnt_is_held_by_tests_that_are_there(lesson: str) -> None:
    assert LESSONS[lesson]
    assert [name for name in LESSONS[lesson] if name not in names_of_tests()] == []
