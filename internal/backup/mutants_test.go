package backup

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches are changes of the source, each of which gives up a rule. A test that no
// longer fails for one of them has stopped to guard that rule.
var breaches = map[string]mutants.Mutant{
	"what was given up is told to go on":        mutants.Of("decide.go", "step.Message += last(w, operation)", ""),
	"a claim is waited for without a word":      mutants.Of("archive.go", `case o.MissingClaim != "" && !o.Archiver.Running:`, "case false:"),
	"an archive that was drilled is not tried":  mutants.Of("cover.go", "verified == nil && a != nil {", "false && a != nil {"),
	"a size has no unit":                        mutants.Of("status.go", "unit := int64(1024)", "unit := int64(1)"),
	"a failed Job's result counts":              mutants.Of("decide.go", "case w.State == WorkSucceeded && done(r, operation):", "case done(r, operation):"),
	"a backup is complete without an ID":        mutants.Of("decide.go", `return r.Backup != nil && r.Backup.ID != ""`, "return true"),
	"a drill without a verification verifies":   mutants.Of("decide.go", "return r.Verification != nil", "return true"),
	"one work's result counts for another":      mutants.Of("decide.go", "r == nil || r.Operation != operation ||", "r == nil ||"),
	"another cluster of the name is backed up":  mutants.Of("decide.go", `case o.ClusterUID != "" && o.Cluster.UID != o.ClusterUID:`, "case false:"),
	"work begins before the cluster is on file": mutants.Of("decide.go", `case o.ClusterUID == "":`, "case false:"),
	"what a Job stores after a deletion stays":  mutants.Of("decide.go", "if o.ID != \"\" || o.Save.State != WorkRunning || o.DeletedFor > DeletionLimit {", "if true {"),
	"a lost node holds a backup for ever":       mutants.Of("decide.go", "|| o.Save.State != WorkRunning || o.DeletedFor > DeletionLimit {", "|| o.Save.State != WorkRunning {"),
	"what a killed Job has stored stays":        mutants.Of("decide.go", "o.ClusterUID != \"\" && !cleared", "false && !cleared"),
	"one failure leaves the objects":            mutants.Of("decide.go", "o.DeletedFor <= DeletionLimit && !permanent(o.Prune):", "false:"),
	"a deletion waits for ever":                 mutants.Of("decide.go", "case w.Age > DeletionLimit:", "case false:"),
	"objects are left untried":                  mutants.Of("decide.go", `case o.Prune.State == WorkAbsent && o.MissingSecret == "":`, `case o.Prune.State == WorkAbsent && o.MissingSecret == "" && o.DeletedFor <= DeletionLimit:`),
	"a refused Job holds a backup for ever":     mutants.Of("decide.go", "step.Kind != Prune || o.DeletedFor <= DeletionLimit", "step.Kind != \"\""),
	"a namespace waits for its backups":         mutants.Of("decide.go", "case o.Prune.State == WorkAbsent && o.NamespaceEnds:", "case false:"),
	"objects are deleted against the user":      mutants.Of("decide.go", "case o.DeletionPolicy != v1alpha1.BackupDelete:", "case false:"),
	"what the store refused is called deleted":  mutants.Of("decide.go", "return r != nil && r.Pruned != nil && r.Pruned.Refused > 0", "return false"),
	"another cluster of the name is archived":   mutants.Of("archive.go", `case o.ClusterUID != "" && o.Cluster.UID != "" && o.Cluster.UID != o.ClusterUID:`, "case false:"),
	"archiving before the cluster is on file":   mutants.Of("archive.go", `case o.ClusterUID == "":`, "case false:"),
	"an archive is verified by another drill":   mutants.Of("archive.go", "r.Operation == snapshot.OperationDrillArchive &&", ""),
	"a drill is told again and again":           mutants.Of("archive.go", "o.DrillBegan.After(o.LastDrill)", "true"),
	"a suspended archive goes on":               mutants.Of("archive.go", "case o.Suspend:", "case false:"),
	"an archive is late and nobody hears":       mutants.Of("archivestatus.go", "o.MaxLag <= 0 || o.Lag() <= o.MaxLag {", "true {"),
	"what is behind is told to be archived":     mutants.Of("archivestatus.go", "> o.SealEvery+behindBy", "> o.SealEvery+behindBy && false"),
	"who has just started is told to be silent": mutants.Of("archivestatus.go", "o.Now.Sub(o.Archiver.Since) < startsWithin", "false"),
	"who is silent is told to be starting":      mutants.Of("archivestatus.go", "o.Now.Sub(o.Archiver.Since) < startsWithin", "true"),
	"an archive without a base is Ready":        mutants.Of("archivestatus.go", "case base.Status != metav1.ConditionTrue:", "case false:"),
	"an archive that differs is Ready":          mutants.Of("archivestatus.go", "case condemned(&verified):", "case false:"),
	"a corrupt archive is Ready":                mutants.Of("archivedrill.go", "!silent[verified.Reason]", "snapshot.Reason(verified.Reason).Permanent()"),
	"a drill that saw nothing absolves":         mutants.Of("archivestatus.go", "if silent[reason] && condemned(before) && !moved(o.Seen) {", "if false {"),
	"a drill counts for another archive":        mutants.Of("archivedrill.go", "o.DrilledOf != o.DrillOf", "false"),
	"an old drill counts for another archive":   mutants.Of("archive.go", "o.DrillOf != \"\" && o.DrillJobOf != o.DrillOf", "false"),
	"what is mended waits for a week":           mutants.Of("archive.go", "o.DrillFailure != snapshot.ReasonDiffers", "!o.DrillFailure.Permanent()"),
	"a new base waits for a week":               mutants.Of("archive.go", "snapshot.ReasonDiffers || rebased)", "snapshot.ReasonDiffers || rebased && false)"),
	"what is gone from the store is not told":   mutants.Of("archivestatus.go", "{p.Gap, p.Lost}", "{p.Gap}"),
	"what is lost is told to be compacted":      mutants.Of("archivestatus.go", "if g.Reason == v1alpha1.ReasonLost {", "if false {"),
	"who moves is told to be behind":            mutants.Of("archivestatus.go", "if maxLag > 0 {", "if maxLag < 0 {"),
	"status follows every write":                mutants.Of("archivestatus.go", "toldEvery = time.Minute", "toldEvery = 0 * time.Minute"),
	"an outage takes the verification away":     mutants.Of("decide.go", "return o.Verified && o.Drill.State == WorkFailed && !told", "return false && told"),
	"a rotten backup stays verified":            mutants.Of("decide.go", "return o.Verified && o.Drill.State == WorkFailed && !told", "return o.Verified && o.Drill.State == WorkFailed && (told || !told)"),
	"a drill of before counts":                  mutants.Of("decide.go", "o.Drill.ended() && o.Drill.EndedFor > o.DrillDueFor:", "false:"),
	"a drill of now is begun again for ever":    mutants.Of("decide.go", "o.Drill.ended() && o.Drill.EndedFor > o.DrillDueFor:", "o.Drill.ended():"),
	"a drill that failed is not on record":      mutants.Of("status.go", "\tcase Fail:\n\t\tif o.Seen.Complete {", "\tcase Fail:\n\t\tif false {"),
	"a bad backup is still called verified":     mutants.Of("status.go", "o.Seen.Verified && !failed ||", "o.Seen.Verified ||"),
	"what was never saved is tried out":         mutants.Of("decide.go", "return o.DrillDue && o.Complete &&", "return o.DrillDue &&"),
	"all are tried out at once":                 mutants.Of("schedule.go", "|| item.State == ItemGood && item.DrillOrdered(p.Now):", "|| false:"),
	"a doubt of before counts":                  mutants.Of("redrill.go", "redrillDue(LastDrill(b), order, now) && order", "order"),
	"nobody's doubt counts":                     mutants.Of("redrill.go", "[]time.Time{after, doubted}", "[]time.Time{after}"),
	"the newest goes for the next":              mutants.Of("schedule.go", "item.State == ItemActive && item.Slot.Before(slot) &&", "item.State == ItemActive &&"),
	"what gets due in a pass is forgotten":      mutants.Of("redrill.go", "return max(soonest, after.Sub(now))", "return max(0, after.Sub(now))"),
	"a drill in the future holds up all others": mutants.Of("redrill.go", "&& !after.After(now)", ""),
	"who is tried out again takes a slot":       mutants.Of("cover.go", "case item.Saved && !item.Drilled.IsZero():", "case false:"),
	"what is being restored from goes":          mutants.Of("archiveprune.go", `case !PruneDue(o) || o.PruneHeld != "":`, "case !PruneDue(o):"),
	"an archive in trouble is shortened":        mutants.Of("archiveprune.go", "p.Trouble != nil ||", ""),
	"an archive without a base is shortened":    mutants.Of("archiveprune.go", "p.BaseMissing ||", ""),
	"it is looked for ever":                     mutants.Of("archiveprune.go", "o.LastPrune.Add(pause)", "o.LastPrune"),
	"what was deleted is told again and again":  mutants.Of("archiveprune.go", "o.PruneBegan.After(o.LastPrune)", "true"),
	"what the store refused is called gone":     mutants.Of("archiveprune.go", "&& w.Result.Pruned.Refused == 0 && len(w.Result.Warnings) == 0:", ":"),
	"a slot is taken twice":                     mutants.Of("schedule.go", "if item.Slot.After(last) && !item.Slot.After(p.Now) {", "if false {"),
	"a fast clock stops all backups":            mutants.Of("schedulestatus.go", "case p.Last.After(p.Now):", "case false:"),
	"a suspended schedule deletes":              mutants.Of("schedule.go", "t.Next = time.Time{}\n\t\treturn t", "t.Next = time.Time{}"),
	"an active backup is dropped for age":       mutants.Of("schedule.go", "case item.State == ItemGood, item.State == ItemFailed &&", "case item.State == ItemGood, item.State == ItemActive, item.State == ItemFailed &&"),
	"what is being restored is dropped":         mutants.Of("schedule.go", "func(d Drop) bool { return d.InUse }", "func(d Drop) bool { return false }"),
	"what is being restored is replaced":        mutants.Of("schedule.go", "&& !active.InUse:", ":"),
	"a failed one takes a good one's place":     mutants.Of("schedule.go", "counted{item.Backup.ClusterUID, item.State == ItemFailed}", "counted{item.Backup.ClusterUID, false}"),
	"a new cluster drops those of the lost one": mutants.Of("schedule.go", "counted{item.Backup.ClusterUID, item.State == ItemFailed}", "counted{\"\", item.State == ItemFailed}"),
	"what could not be tried out is dropped":    mutants.Of("schedule.go", "item.State == ItemFailed && item.Saved && !item.Condemned:", "false:"),
	"what is of no use is counted":              mutants.Of("schedule.go", "item.State == ItemFailed && item.Saved && !item.Condemned:", "item.State == ItemFailed && item.Saved:"),
	"a saved one is replaced":                   mutants.Of("schedule.go", "p.Concurrency == v1alpha1.ConcurrencyReplace && active.Saved:", "false:"),
	"an earlier cluster's backup reassures":     mutants.Of("schedule.go", "item.Backup.ClusterUID == present {", "(item.Backup.ClusterUID == present || true) {"),
	"a slot in the future hides an outage":      mutants.Of("schedulestatus.go", "!p.Now.IsZero() && slot.After(p.Now)", "false"),
	"a new key takes the verification away":     mutants.Of("decide.go", "r.Outcome == snapshot.OutcomeFailed && r.Reason.Condemns()", "r.Outcome == snapshot.OutcomeFailed && r.Reason.Permanent()"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the guards against each mutant.
func TestMutants(t *testing.T) { mutants.Caught(t, breaches, "-skip=^TestMutants$") }
