package controllers

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/backup"
)

// Metrics of schedules, in seconds since 1970 and in bytes. The age of a backup, and
// with it how much would be lost, is time() minus the first.
var (
	scheduleLabels = []string{"namespace", "schedule", "cluster"}

	lastSuccess  = gauge("last_success_timestamp_seconds", "Start of the newest backup that is as it was asked for.")
	lastSize     = gauge("last_success_size_bytes", "Size of that backup in the store, rounded up to three digits.")
	lastDuration = gauge("last_success_duration_seconds", "How long that backup took to be saved.")
	lastVerified = gauge("last_verified_timestamp_seconds", "Start of the newest backup that was restored and compared.")
	nextDue      = gauge("next_due_timestamp_seconds", "When the next backup is due.")
	overdue      = gauge("overdue", "1 when two backups have been due since the newest good one.")
	kept         = gauge("backups", "How many backups of the schedule there are.")
	failures     = gauge("failed", "How many of them have failed.")
)

// sometimes there is none: what was good may rot or be deleted, and nothing may be due. A figure
// of before would tell of what no restore finds.
var sometimes = []*prometheus.GaugeVec{lastSuccess, lastSize, lastDuration, lastVerified, nextDue}

func gauge(name, help string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "quorate", Subsystem: "backup_schedule", Name: name, Help: help}, scheduleLabels)
	metrics.Registry.MustRegister(g)
	return g
}

// measure a schedule as its last pass saw it.
func measure(s *v1alpha1.EtcdBackupSchedule, p backup.Plan) {
	of := prometheus.Labels{"namespace": s.Namespace, "schedule": s.Name, "cluster": s.Spec.Backup.ClusterRef.Name}
	now := map[*prometheus.GaugeVec]float64{}
	good, verified := p.Newest()
	if good != nil {
		now[lastSuccess], now[lastSize], now[lastDuration] = float64(good.Backup.Began.Unix()), float64(good.Size), good.Took.Seconds()
	}
	if verified != nil {
		now[lastVerified] = float64(verified.Backup.Began.Unix())
	}
	if next := s.Status.NextScheduleTime; next != nil {
		now[nextDue] = float64(next.Unix())
	}
	for _, g := range sometimes {
		if figure, is := now[g]; is {
			g.With(of).Set(figure)
		} else {
			g.Delete(of)
		}
	}
	late := map[bool]float64{true: 1}[p.Overdue()]
	overdue.With(of).Set(late)
	kept.With(of).Set(float64(len(p.Items)))
	failed := 0
	for _, item := range p.Items {
		if item.State == backup.ItemFailed {
			failed++
		}
	}
	failures.With(of).Set(float64(failed))
}

// forgetSchedule that is gone.
func forgetSchedule(name types.NamespacedName) {
	of := prometheus.Labels{"namespace": name.Namespace, "schedule": name.Name}
	for _, g := range append([]*prometheus.GaugeVec{overdue, kept, failures}, sometimes...) {
		g.DeletePartialMatch(of)
	}
}
