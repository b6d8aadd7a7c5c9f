package resources

import (
	"testing"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
)

// TestIdentityInAzure: whoever works for a backup is what its ServiceAccount is, unless a Secret is
// named, and so is a member that is filled; a Deployment finds its pods by labels that no webhook asks for.
func TestIdentityInAzure(t *testing.T) {
	for name, tc := range map[string]struct {
		store v1alpha1.BackupStore
		want  string
	}{
		"as itself":     {v1alpha1.BackupStore{Azure: &v1alpha1.AzureStore{Account: "acc", Container: "etcd"}}, "true"},
		"with a Secret": {stores["azure"], ""},
		"elsewhere":     {stores["amazon"], ""},
	} {
		b, a, c := backupTo(tc.store), archiveTo(tc.store), cluster()
		archiver, err := Archiver(a, archiveWork())
		if err != nil {
			t.Fatal(err)
		}
		from := Restore{Store: tc.store}
		filled := beginning(c, "a-0000")
		filled.Restore = &from
		for who, labels := range map[string]map[string]string{
			"save":          BackupJob(b, Work{Operation: snapshot.OperationSave, Cluster: c}).Spec.Template.Labels,
			"drill":         BackupJob(b, Work{Operation: snapshot.OperationDrill, Cluster: c}).Spec.Template.Labels,
			"archive":       archiver.Spec.Template.Labels,
			"drill-archive": ArchiveDrillJob(a, archiveWork()).Spec.Template.Labels,
			"prune":         ArchivePruneJob(a, archiveWork(), a.CreationTimestamp.Time).Spec.Template.Labels,
			"check":         RecoveryCheckJob(c, from).Spec.Template.Labels,
			"a member":      MemberPod(c, filled).Labels,
		} {
			if labels[labelAzureIdentity] != tc.want {
				t.Errorf("%s: the pods of %s have %v", name, who, labels)
			}
		}
		if _, selects := archiver.Spec.Selector.MatchLabels[labelAzureIdentity]; selects {
			t.Errorf("%s: the Deployment selects by it", name)
		}
	}
}

// TestIdentityOfMembers: what the user has given is on the ServiceAccount, and what was taken back
// makes it another one than it was.
func TestIdentityOfMembers(t *testing.T) {
	const role = "eks.amazonaws.com/role-arn"
	plain, given := serviceAccount(cluster()).Annotations, serviceAccount(cluster(func(c *v1alpha1.EtcdCluster) {
		c.Spec.PodTemplate.ServiceAccountAnnotations = map[string]string{role: "arn"}
	})).Annotations
	if given[role] != "arn" || plain[role] != "" {
		t.Errorf("with an identity %v, and without %v", given, plain)
	}
	if given[v1alpha1.AnnotationTemplateHash] == plain[v1alpha1.AnnotationTemplateHash] {
		t.Errorf("nobody sees that %v is to be %v again", given, plain)
	}
}
