package controllers

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/backup"
)

// ArchiveLags tells how far the archives are behind. It counts on from what was seen last,
// so that an operator which does not look any more does not look well.
type ArchiveLags struct {
	// Clock tells the time.
	Clock clock.PassiveClock

	mu       sync.Mutex
	archives map[types.NamespacedName]archiveLag
}

type archiveLag struct {
	cluster  string
	until    time.Time
	revision int64
	exceeded float64
	baseless float64
	gaps     int
}

var (
	archiveLabels = []string{"namespace", "archive", "cluster"}

	archiveAge      = archiveMetric("age_seconds", "What was acknowledged longer ago is archived; what is younger would be lost with the cluster.")
	archiveRevision = archiveMetric("archived_revision", "Revision up to which everything is archived.")
	archiveExceeded = archiveMetric("lag_exceeded", "1 when the archive is further behind than spec.maxLag.")
	archiveBaseless = archiveMetric("base_lacking", "1 while there is no backup to restore the end of the archive from.")
	archiveGaps     = archiveMetric("known_gaps", "How many gaps status names.")
)

func archiveMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("quorate_archive_"+name, help, archiveLabels, nil)
}

// Describe sends the descriptions of all metrics.
func (l *ArchiveLags) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{archiveAge, archiveRevision, archiveExceeded, archiveBaseless, archiveGaps} {
		to <- d
	}
}

// Collect sends the metrics as they are now.
func (l *ArchiveLags) Collect(to chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, a := range l.archives {
		send := func(d *prometheus.Desc, value float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, name.Namespace, name.Name, a.cluster)
		}
		send(archiveAge, max(0, l.Clock.Since(a.until).Seconds()))
		send(archiveRevision, float64(a.revision))
		send(archiveExceeded, a.exceeded)
		send(archiveBaseless, a.baseless)
		send(archiveGaps, float64(a.gaps))
	}
}

// measure an archive as its last pass saw it.
func (l *ArchiveLags) measure(a *v1alpha1.EtcdArchive, o backup.ArchiveObserved) {
	if l == nil {
		return
	}
	one := map[bool]float64{true: 1}
	lag := archiveLag{
		cluster: a.Spec.ClusterRef.Name, until: o.Now.Add(-o.Lag()), revision: a.Status.ArchivedRevision, gaps: len(a.Status.Gaps),
		exceeded: one[o.MaxLag > 0 && !o.Suspend && o.Lag() > o.MaxLag], baseless: one[a.Status.Base == ""],
	}
	if p := o.Archiver.Progress; p != nil && p.Revision > lag.revision {
		lag.revision = p.Revision
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.archives == nil {
		l.archives = map[types.NamespacedName]archiveLag{}
	}
	l.archives[types.NamespacedName{Namespace: a.Namespace, Name: a.Name}] = lag
}

// forget an archive that is gone.
func (l *ArchiveLags) forget(name types.NamespacedName) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.archives, name)
}
