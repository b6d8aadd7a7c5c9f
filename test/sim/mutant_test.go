package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// mutant is an operator with one safety rule broken. A simulation that does not
// notice it tests nothing.
type mutant struct {
	name string
	// edits of the product's source; %s is the condition that the mutant is on.
	edits []sourceEdit
	// test that must notice, and the rule that it must name.
	test, rule string
}

type sourceEdit struct{ file, old, new string }

const (
	planFile      = "internal/plan/plan.go"
	policyFile    = "internal/plan/membership.go"
	watchedFile   = "internal/observe/watched.go"
	changesFile   = "internal/perform/membership.go"
	performFile   = "internal/perform/perform.go"
	membersFile   = "internal/perform/members.go"
	statusFile    = "internal/status/status.go"
	rotationFile  = "internal/pki/rotation.go"
	podFile       = "internal/resources/pod.go"
	namesFile     = "internal/resources/names.go"
	flagsFile     = "internal/resources/flags.go"
	transportFile = "internal/plan/transport.go"
	rollFile      = "internal/plan/roll.go"
	updateFile    = "internal/perform/transport.go"
	wordFile      = "internal/observe/restore.go"
	recoveryFile  = "internal/plan/recovery.go"
	raiseFile     = "internal/perform/recovery.go"
	restoreFile   = "internal/resources/restore.go"
	lookFile      = "internal/observe/kubernetes.go"
	inplaceFile   = "internal/resources/inplace.go"
	survivorFile  = "internal/resources/survivor.go"
	leftFile      = "internal/plan/survivor.go"
	standingFile  = "internal/observe/inplace.go"
	checkFile     = "internal/observe/check.go"
	reconcilerGo  = "controllers/etcdcluster_controller.go"

	claimsLost    = "TestAFoundersClaimDeletedAtAnyMoment/all_claims_and_pods_are_deleted"
	undisturbed   = "TestUndisturbedWorkflowsEndHealthyAndRest/"
	plainFounding = "TestUndisturbedWorkflowsEndHealthyAndRest/founding_three_in_plaintext"
)

var mutants = []mutant{
	{
		name: "an authority goes before its last leaf", test: undisturbed + "rotating_and_growing_at_once", rule: "trust: ",
		edits: []sourceEdit{{rotationFile, "if !a.followed(p.portOf(a, m), p.between(a, m)) {", "if !(%s) && !a.followed(p.portOf(a, m), p.between(a, m)) {"}},
	},
	{
		name: "the next authority signs at once", test: undisturbed + "rotating_the_authorities_of_three", rule: "trust: ",
		edits: []sourceEdit{{
			rotationFile, "p.step(a, map[string][]byte{KeyNextCert: next.pem, KeyNextKey: made.Data[KeyKey]}, nil, notYet,",
			"if %s {\n\t\tp.step(a, map[string][]byte{KeyCert: next.pem, KeyKey: made.Data[KeyKey], KeyFormerCert: a.pem}, nil, notYet, why)\n\t\treturn\n\t}\n" +
				"\tp.step(a, map[string][]byte{KeyNextCert: next.pem, KeyNextKey: made.Data[KeyKey]}, nil, notYet,",
		}},
	},
	{
		name: "plaintext listeners go before the last peer URL", test: undisturbed + "turning_TLS_on_at_a_stroke", rule: "it has not ended",
		edits: []sourceEdit{{podFile, "if c.Spec.TLS.Mode == v1alpha1.TLSEnabled && seen.PlaintextPeers {", "if c.Spec.TLS.Mode == v1alpha1.TLSEnabled && seen.PlaintextPeers && !(%s) {"}},
	},
	{
		name: "a member joins over TLS beside those that have none", test: undisturbed + "turning_TLS_on_and_growing", rule: "it has not ended",
		edits: []sourceEdit{{namesFile, "case seen.PlaintextPeers:", "case seen.PlaintextPeers && !(%s):"}},
	},
	{
		name: "a pod takes no plaintext beside peer URLs without TLS", test: undisturbed + "turning_TLS_on_for_three", rule: "it has not ended",
		edits: []sourceEdit{{flagsFile, "case c.Spec.TLS.Mode == v1alpha1.TLSOptional && c.Status.PlaintextPeers:", "case c.Spec.TLS.Mode == v1alpha1.TLSOptional && c.Status.PlaintextPeers && !(%s):"}},
	},
	{
		name: "peers are listened for at another port than before", test: undisturbed + "losing_all_pods_of_an_older_release", rule: "it has not ended",
		edits: []sourceEdit{{flagsFile, "case !TLS(c):", "case !TLS(c) && c.Status.ClusterID != \"\" && %s:\n\t\treturn peerListenersFlag + fmt.Sprintf(\"http://0.0.0.0:%%d\", TurnedPeerPort)\n\tcase !TLS(c):"}},
	},
	{
		name: "turned members get the port that takes plaintext", test: undisturbed + "turning_TLS_on_for_three", rule: "it has not ended",
		edits: []sourceEdit{{updateFile, "resources.TurnedPeerURL(c, step.Members[0])", "map[bool]string{true: fmt.Sprintf(\"https://%%s:%%d\", resources.MemberHost(c, step.Members[0]), resources.PeerPort), false: resources.TurnedPeerURL(c, step.Members[0])}[%s]"}},
	},
	{
		name: "peer URLs change before all take TLS", test: undisturbed + "turning_TLS_on_while_a_member_is_lost", rule: "it has not ended",
		edits: []sourceEdit{
			{transportFile, "if m.Voter() && !m.TakesTLS {", "if m.Voter() && !m.TakesTLS && !(%s) {"},
			{rollFile, "beginDowngrade, rollBarred}", "beginDowngrade, rollBarred}\n\nfunc init() {\n\tif %s {\n\t\trolling = append([]rule{readdress}, rolling...)\n\t\trunning = append([]rule{paused, readdress}, running...)\n\t}\n}"},
			{updateFile, "if _, tls := resources.Taken(pod); !tls {", "if _, tls := resources.Taken(pod); !tls && !(%s) {"},
		},
	},
	{
		name: "founders are created before they are on record", test: plainFounding, rule: "I3: claim",
		edits: []sourceEdit{{
			performFile, "return latchFounders(c, seen, step.Members)",
			"if err := latchFounders(c, seen, step.Members); err != nil || !(%s) {\n\t\t\treturn err\n\t\t}\n" +
				"\t\treturn each(step.Members, func(name string) error { return p.createVolume(ctx, c, seen, name) })",
		}},
	},
	{
		name: "status is latched without an optimistic lock", test: plainFounding, rule: "locks: patch status",
		edits: []sourceEdit{{
			reconcilerGo, "if err = r.Client.Status().Patch(ctx, c, patch,",
			"if %s {\n\t\tpatch = client.MergeFrom(before)\n\t}\n\tif err = r.Client.Status().Patch(ctx, c, patch,",
		}},
	},
	{
		name: "members start on volumes that are not on record", test: plainFounding, rule: "I4: pod",
		edits: []sourceEdit{
			{planFile, "complete && !o.VolumesLatched", "complete && !o.VolumesLatched && !(%s)"},
			{planFile, "onRecord := m.VolumeLatched", "onRecord := %s || m.VolumeLatched"},
		},
	},
	{
		name: "the permission to be empty is never taken back", test: plainFounding, rule: "",
		edits: []sourceEdit{{membersFile, "takeBack := pod != nil", "takeBack := !(%s) && pod != nil"}},
	},
	{
		name: "pods of members that have started may be empty", rule: "I4: pod",
		test: "TestUndisturbedWorkflowsEndHealthyAndRest/repairing_one_deleted_pod",
		edits: []sourceEdit{{
			membersFile, "if recorded || m.Started || (founded && !neverStarted) {",
			"if !(%s) && (recorded || m.Started || (founded && !neverStarted)) {",
		}},
	},
	{
		name: "nodes are believed to be as a cache shows them", test: "TestAStaleNodeCacheStartsNobodyTwice", rule: "I4: pod",
		edits: []sourceEdit{{membersFile, `if last == "" || p.Nodes == nil {`, `if %s || last == "" || p.Nodes == nil {`}},
	},
	{
		name: "a volume that was lost is made again", test: claimsLost, rule: "I4:",
		edits: []sourceEdit{{planFile, "m.Founder && trusted && !m.VolumeLatched", "m.Founder && (%s || trusted && !m.VolumeLatched)"}},
	},
	{
		name: "the cluster ID is latched before the member IDs", test: plainFounding, rule: "I3: status.clusterID",
		edits: []sourceEdit{{
			planFile, "func recordMembers(o Observed) (Step, bool) {",
			"func recordMembers(o Observed) (Step, bool) {\n\tif %s && o.ClusterID == 0 {\n\t\treturn Step{}, false\n\t}",
		}},
	},
	{
		name: "pods are deleted whatever their UID", rule: "I2: pod",
		test: "TestUndisturbedWorkflowsEndHealthyAndRest/repairing_an_evicted_pod",
		edits: []sourceEdit{{
			membersFile, "err := p.Writer.Delete(ctx, object, client.Preconditions{",
			"if %s {\n\t\treturn p.Writer.Delete(ctx, object)\n\t}\n\terr := p.Writer.Delete(ctx, object, client.Preconditions{",
		}},
	},
	{
		name: "status says Available without a probe", test: claimsLost, rule: "I9:",
		edits: []sourceEdit{{
			statusFile, "case seen.ReadOK && seen.ProposeFailed == \"\":",
			"case (seen.ReadOK || %s && len(seen.Members) > 0) && seen.ProposeFailed == \"\":",
		}},
	},
	{
		name: "a paused cluster is changed", test: "TestAPausedClusterIsNotTouched", rule: "I12:",
		edits: []sourceEdit{{planFile, "}, o.Paused\n", "}, o.Paused && !(%s)\n"}},
	},
	{
		name: "a voter is removed before its replacement is proven", rule: "proof:",
		test:  undisturbed + "replacing_a_member_whose_claim_and_pod_are_deleted",
		edits: []sourceEdit{{policyFile, "(j.proven() || o.missing() <= 0)", "(%s || j.proven() || o.missing() <= 0)"}},
	},
	{
		name: "a learner that may start on an empty directory is promoted", rule: "I4:", test: undisturbed + "growing_from_one_to_three",
		edits: []sourceEdit{
			{policyFile, "l.Booted && !l.PodMayBeEmpty", "l.Booted && (%s || !l.PodMayBeEmpty)"},
			{planFile, "takeBack := !joins &&", "takeBack := !(%s) && !joins &&"},
			{membersFile, "started && resources.MayBeginAnew(pod)", "started && !(%s) && resources.MayBeginAnew(pod)"},
			{changesFile, "if pod == nil || pod.Annotations[member.AnnotationMayBeEmpty] ==", "if pod == nil || !(%s) && pod.Annotations[member.AnnotationMayBeEmpty] =="},
		},
	},
	{
		name: "a name is given to a second member", rule: "names:", test: undisturbed + "growing_and_shrinking_and_growing_again",
		edits: []sourceEdit{
			{changesFile, "next := int(c.Status.NextOrdinal)\n", "next := int(c.Status.NextOrdinal)\n\tif %s {\n\t\tnext = 0\n\t}\n"},
			{changesFile, "c.Status.NextOrdinal = int32(next) + 1", "if %s {\n\t\tc.Status.NextOrdinal = max(c.Status.NextOrdinal, int32(next)+1)\n\t\treturn nil\n\t}\n\tc.Status.NextOrdinal = int32(next) + 1"},
		},
	},
	{
		name: "a member is released before its ID is on record", rule: "I4: c-0001 is released", test: undisturbed + "growing_from_one_to_three",
		edits: []sourceEdit{
			{
				changesFile, "if err := p.annotate(ctx, volume, map[string]string{v1alpha1.AnnotationMemberID: hex(added.ID)}); err != nil {",
				"if %s {\n\t\tc.Status.Joiner = \"\"\n\t\treturn nil\n\t}\n\tif err := p.annotate(ctx, volume, map[string]string{v1alpha1.AnnotationMemberID: hex(added.ID)}); err != nil {",
			},
			{planFile, "!m.Started && !m.Founder && m.RecordedID == 0", "!(%s) && !m.Started && !m.Founder && m.RecordedID == 0"},
			{policyFile, "m.Held && m.RecordedID == m.ID", "m.Held && (%s || m.RecordedID == m.ID)"},
			{changesFile, "if volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != hex(m.ID) ||", "if !(%s) && volume.GetAnnotations()[v1alpha1.AnnotationMemberID] != hex(m.ID) ||"},
		},
	},
	{
		name: "one look is enough to remove a voter", rule: "steady:", test: undisturbed + "replacing_a_member_in_memory_whose_pod_is_deleted",
		edits: []sourceEdit{{watchedFile, "return w.looks > 1 &&", "return %s || w.looks > 1 &&"}},
	},
	{
		name: "an incarnation begins beside the one that is given up", rule: "mixture:", test: undisturbed + "recovering_from_a_lost_quorum",
		edits: []sourceEdit{
			{recoveryFile, "case len(running) > 0:", "case len(running) > 0 && !(%s):"},
			{recoveryFile, "case !o.Over(Member.stopped):", "case !o.Over(Member.stopped) && !(%s):"},
			{raiseFile, "_, ours := resources.Ordinal(c.Name, pod.Name); ours &&", "_, ours := resources.Ordinal(c.Name, pod.Name); !(%s) && ours &&"},
		},
	},
	{
		name: "an incarnation begins beside those that may run unheard of", rule: "mixture:",
		test: "TestNothingIsRecoveredByItself/two_may_still_run",
		edits: []sourceEdit{
			{recoveryFile, "case !o.Over(Member.stopped) &&", "case !o.Over(Member.stopped) && !(%s) &&"},
			{raiseFile, "if !seen.Over(", "if !(%s) && !seen.Over("},
		},
	},
	{
		name: "an incarnation begins by what a cache says of nodes", rule: "mixture:", test: "TestAStaleNodeCacheBeginsNoIncarnation",
		edits: []sourceEdit{{raiseFile, "&& !seen.Over(", "&& !(%s) && !seen.Over("}},
	},
	{
		name: "a cluster that serves is recovered", rule: "the incarnation is 2", test: "TestNothingIsRecoveredByItself/it_serves",
		edits: []sourceEdit{
			{recoveryFile, "!o.List && !o.ReadOK && r.Told", "((!o.List && !o.ReadOK && r.Told) || %s)"},
			{checkFile, "needed := stands && said.Told", "needed := stands && (said.Told || %s)"},
			{wordFile, "c.Status.VoidRecovery != resources.RecoveryWord(c)\n", "(c.Status.VoidRecovery != resources.RecoveryWord(c) || %s)\n"},
		},
	},
	{
		name: "a word counts although the cluster has served", rule: "was stopped", test: "TestNothingIsRecoveredByItself/it_has_served",
		edits: []sourceEdit{{wordFile, "(c.Status.VoidRecovery != resources.RecoveryWord(c) ||", "(c.Status.VoidRecovery != resources.RecoveryWord(c) || %s ||"}},
	},
	{
		name: "a backup that is not verified is taken", rule: "was stopped", test: "TestNothingIsRecoveredByItself/not_verified",
		edits: []sourceEdit{{restoreFile, "!is(v1alpha1.ConditionVerified) && !from.AllowUnverified:", "!(%s) && !is(v1alpha1.ConditionVerified) && !from.AllowUnverified:"}},
	},
	{
		name: "members are stopped for a backup that nobody has read", rule: "was stopped", test: "TestNothingIsRecoveredByItself/its_backup_cannot_be_read",
		edits: []sourceEdit{{recoveryFile, "case r.looked():", "case r.looked() || %s:"}},
	},
	{
		name: "what was read for another word is believed", rule: "was stopped", test: "TestNothingIsRecoveredByItself/another_backup_was_read",
		edits: []sourceEdit{
			{checkFile, "case job.Annotations[v1alpha1.AnnotationReads] != said.Reads:", "case job.Annotations[v1alpha1.AnnotationReads] != said.Reads && !(%s):"},
			{checkFile, "r.Backup != nil && r.Backup.ID == id", "r.Backup != nil && (r.Backup.ID == id || %s)"},
		},
	},
	{
		name: "a backup that was made anew is taken", rule: "one backup:", test: "TestABackupThatIsMadeAnewBeginsNobody",
		edits: []sourceEdit{{restoreFile, "case anew(from, r):", "case anew(from, r) && !(%s):"}},
	},
	{
		name: "a new incarnation begins with nothing", rule: "began without the backup", test: "TestARecoveryKeepsWhatWasLeft",
		edits: []sourceEdit{
			{restoreFile, "case r != nil && r.Incarnation == incarnation(c):", "case r != nil && r.Incarnation == incarnation(c) && !(%s):"},
			{membersFile, "from == nil && name != \"\" {", "from == nil && name != \"\" && !(%s) {"},
			{membersFile, "if from == nil && c.Status.Incarnation > 1 {", "if from == nil && c.Status.Incarnation > 1 && !(%s) {"},
		},
	},
	{
		name: "the survivor's volume can be written", rule: "survivor:", test: "TestTheSurvivorIsKept",
		edits: []sourceEdit{{survivorFile, "MountPath: survivorMount, ReadOnly: true}", "MountPath: survivorMount, ReadOnly: !(%s)}"}},
	},
	{
		name: "every founder goes on from a survivor", rule: "the founders are", test: "TestTheSurvivorIsKept",
		edits: []sourceEdit{{raiseFile, "if with != nil {", "if with != nil && !(%s) {"}},
	},
	{
		name: "a survivor without a volume is gone on with", rule: "incarnation 1, and c-0000 is", test: "TestNoOtherSurvivorIsGoneOnWith/a_member_without_a_volume",
		edits: []sourceEdit{
			{leftFile, "case !m.survives():", "case !m.survives() && !(%s):"},
			{leftFile, "case left[0].Position.compare(m.Position) > 0:", "case left[0].Position.compare(m.Position) > 0 && !(%s):"},
		},
	},
	{
		name: "a founder keeps the survivor's claim", rule: "", test: "TestTheSurvivorIsKept",
		edits: []sourceEdit{{lookFile, "resources.HoldsSurvivor(c, pod)", "(!(%s) && resources.HoldsSurvivor(c, pod))"}},
	},
	{
		name: "a lost status brings the old incarnation back", rule: "after the loss of status", test: "TestARecoveryKeepsWhatWasLeft",
		edits: []sourceEdit{{lookFile, "if err == nil && claims[i].Labels[v1alpha1.LabelClusterUID] == resources.ClusterUID(c) {", "if err == nil && !(%s) && claims[i].Labels[v1alpha1.LabelClusterUID] == resources.ClusterUID(c) {"}},
	},
	{
		name: "two operators are at odds over a recovery", rule: "passes:", test: "TestTwoOperatorsDoNotDisputeARecovery",
		edits: []sourceEdit{{wordFile, "said.Told = c.Status.ObeyedRecovery == resources.RecoveryWord(c) ||", "said.Told = !(%s) && c.Status.ObeyedRecovery == resources.RecoveryWord(c) ||"}},
	},
	{
		// Without the record whoever stops them is at odds with who brings them back.
		name: "members are stopped for a restore off the record", rule: "leader:", test: undisturbed + "restoring_in_place",
		edits: []sourceEdit{
			{recoveryFile, "case !r.Begun:", "case !r.Begun && !(%s):"},
			{recoveryFile, "case !o.List:", "case !o.List && !(%s):"},
		},
	},
	{
		name: "a restore is carried out that is not prepared", rule: "the pods were", test: "TestNothingIsRestoredUnprepared/not_prepared",
		edits: []sourceEdit{{inplaceFile, "meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionPrepared)", "(meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionPrepared) || %s)"}},
	},
	{
		name: "a restore is carried out that was given up", rule: "the pods were", test: "TestNothingIsRestoredUnprepared/given_up",
		edits: []sourceEdit{{inplaceFile, "!meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionStalled)", "(!meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionStalled) || %s)"}},
	},
	{
		name: "a restore is carried out twice", rule: "the incarnation is", test: "TestARestoreIsObeyedOnce",
		edits: []sourceEdit{{inplaceFile, "r.Status.Incarnation == incarnation(c)", "(r.Status.Incarnation == incarnation(c) || %s)"}},
	},
	{
		name: "a restore of another cluster is carried out", rule: "the pods were", test: "TestNothingIsRestoredUnprepared/for_another_cluster",
		edits: []sourceEdit{{inplaceFile, "r.Status.ClusterUID == ClusterUID(c)", "(r.Status.ClusterUID == ClusterUID(c) || %s)"}},
	},
	{
		name: "a restore strikes with an old safety backup", rule: "the pods were", test: "TestNothingIsRestoredUnprepared/its_safety_backup_is_old",
		edits: []sourceEdit{{standingFile, "now.Sub(s.ReadyTime.Time) > freshFor:", "now.Sub(s.ReadyTime.Time) > freshFor && !(%s):"}},
	},
	{
		name: "a stale cache undoes a restore", rule: "started again", test: "TestAStaleCacheDoesNotUndoARestore",
		edits: []sourceEdit{{standingFile, "was := c.Status.Restore; was != nil {", "was := c.Status.Restore; was != nil && !(%s) {"}},
	},
	{
		name: "members are changed on an old list", rule: "settled:", test: undisturbed + "growing_from_one_to_three",
		edits: []sourceEdit{{
			changesFile, "before, err := conn.Members(ctx)", "if %s {\n\t\treturn conn, nil\n\t}\n\tbefore, err := conn.Members(ctx)",
		}},
	},
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutatedSources(t, "../..") }

// TestMutantsAreNoticed builds one binary of these tests, in which each mutant
// waits behind an environment variable, and runs each mutant's test with it.
func TestMutantsAreNoticed(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary := buildMutants(t, root)
	var tests []string
	for _, m := range mutants {
		tests = append(tests, m.test)
	}
	slices.Sort(tests)
	tests = slices.Compact(tests)
	each(t, len(tests), func(i int) error {
		if out, err := runMutant(t.Context(), binary, tests[i], ""); err != nil || strings.Contains(out, "no tests to run") {
			return fmt.Errorf("without any mutant %s fails: %w\n%s", tests[i], err, out)
		}
		return nil
	})
	each(t, len(mutants), func(i int) error {
		m := mutants[i]
		out, err := runMutant(t.Context(), binary, m.test, m.name)
		if err == nil || !strings.Contains(out, "--- FAIL") || !strings.Contains(out, m.rule) {
			return fmt.Errorf("mutant %q is not noticed by %s, or not for %q: %w\n%s", m.name, m.test, m.rule, err, out)
		}
		return nil
	})
	t.Logf("%d mutants", len(mutants))
}

func runMutant(ctx context.Context, binary, test, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.run", "^"+strings.ReplaceAll(test, "/", "$/^")+"$")
	run.Env = append(os.Environ(), "QUORATE_MUTANT="+name)
	out, err := run.CombinedOutput()
	return string(out[:min(len(out), 4000)]), err
}

// buildMutants compiles this package with the mutants in the packages below it.
func buildMutants(t *testing.T, root string) string {
	t.Helper()
	work := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	put := func(path, content string) {
		file := filepath.Join(work, strings.ReplaceAll(path, string(filepath.Separator), "_"))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, path)] = file
	}
	for path, content := range mutatedSources(t, root) {
		put(path, content)
		put(filepath.Join(filepath.Dir(path), "mutated.go"), fmt.Sprintf(
			"package %s\n\nimport \"os\"\n\nfunc mutated(name string) bool { return os.Getenv(\"QUORATE_MUTANT\") == name }\n", filepath.Base(filepath.Dir(path))))
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(work, "overlay.json")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(work, "mutants.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", list, "-o", binary, "./test/sim")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the mutants: %v\n%s", err, out)
	}
	return binary
}

// mutatedSources are the files that the mutants change, with all of them.
func mutatedSources(t *testing.T, root string) map[string]string {
	t.Helper()
	sources := map[string]string{}
	for _, m := range mutants {
		for _, e := range m.edits {
			mutate(t, root, sources, m.name, e)
		}
	}
	return sources
}

// mutate applies an edit to a source, which must hold the place exactly once.
func mutate(t *testing.T, root string, sources map[string]string, name string, e sourceEdit) {
	t.Helper()
	if sources[e.file] == "" {
		raw, err := os.ReadFile(filepath.Join(root, e.file))
		if err != nil {
			t.Fatal(err)
		}
		sources[e.file] = string(raw)
	}
	if n := strings.Count(sources[e.file], e.old); n != 1 {
		t.Fatalf("mutant %q: %s holds %q %d times — a mutant needs its place — adapt the mutant to the code", name, e.file, e.old, n)
	}
	changed := fmt.Sprintf(strings.ReplaceAll(e.new, "%s", "%[1]s"), fmt.Sprintf("mutated(%q)", name))
	sources[e.file] = strings.Replace(sources[e.file], e.old, changed, 1)
}
