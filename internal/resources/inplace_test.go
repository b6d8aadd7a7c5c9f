package resources

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
)

// TestSafetyBackupHasItsOwnPace: a cluster that has grown needs more time than its old backup had,
// whose spec nobody can change.
func TestSafetyBackupHasItsOwnPace(t *testing.T) {
	of := &v1alpha1.EtcdBackup{Spec: v1alpha1.EtcdBackupSpec{RateLimit: resource.MustParse("64Ki"), Timeout: metav1.Duration{Duration: time.Minute}}}
	r := &v1alpha1.EtcdRestore{}
	if b := SafetyBackup(r, of); b.Spec.RateLimit.String() != "64Ki" || b.Spec.Timeout.Duration != time.Minute {
		t.Errorf("of itself it has %s and %s", b.Spec.RateLimit.String(), b.Spec.Timeout.Duration)
	}
	r.Spec.SafetyBackup.RateLimit, r.Spec.SafetyBackup.Timeout = resource.MustParse("32Mi"), metav1.Duration{Duration: time.Hour}
	if b := SafetyBackup(r, of); b.Spec.RateLimit.String() != "32Mi" || b.Spec.Timeout.Duration != time.Hour {
		t.Errorf("told so it has %s and %s", b.Spec.RateLimit.String(), b.Spec.Timeout.Duration)
	}
}

// TestRevisionBump: what founders begin with becomes the floor, and is raised even if it is
// above that. Of what random histories come to, perform has a test.
func TestRevisionBump(t *testing.T) {
	floor := FloorAt(time.Unix(1_800_000_000, 999))
	if first := 1000 + RevisionBump(floor, 1000); first != 1_800_000_000_000_000 {
		t.Errorf("revision 1000 is raised to %d", first)
	}
	if by := RevisionBump(floor, floor+5); by != bump {
		t.Errorf("a backup that is far ahead is raised by %d", by)
	}
	if by := RevisionBump(0, 1000); by != bump {
		t.Errorf("without a floor it is raised by %d", by)
	}
}
