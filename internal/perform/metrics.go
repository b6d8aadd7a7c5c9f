package perform

import (
	"github.com/prometheus/client_golang/prometheus"
)

// comparedAt is the age of what is known of the data; status tells only what was found.
var comparedAt = prometheus.NewDesc("quorate_data_compared_timestamp_seconds",
	"When the data of all members of the cluster was last compared, in seconds since 1970.", []string{"namespace", "cluster"}, nil)

var _ prometheus.Collector = (*Chores)(nil)

// Describe implements prometheus.Collector.
func (c *Chores) Describe(out chan<- *prometheus.Desc) { out <- comparedAt }

// Collect implements prometheus.Collector.
func (c *Chores) Collect(out chan<- prometheus.Metric) {
	for cluster, at := range c.ComparedAt() {
		out <- prometheus.MustNewConstMetric(comparedAt, prometheus.GaugeValue, float64(at.UnixMilli())/1000, cluster.Namespace, cluster.Name)
	}
}
