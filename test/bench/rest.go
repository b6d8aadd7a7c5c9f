package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// written are the resources that the operator writes. Leases are left out: its
// own renewals are the price of two replicas, not of a cluster.
var written = []string{
	"etcdclusters", "pods", "persistentvolumeclaims", "services", "secrets", "serviceaccounts",
	"poddisruptionbudgets", "networkpolicies", "events",
}

// Limits at rest: writes in a minute, and resident memory.
const (
	writesLimit = 10
	rssLimitMiB = 64
)

// rest watches an operator with one healthy cluster and nothing to do.
func (b *bench) rest(ctx context.Context) (bool, error) {
	cluster := newQuorate(b.bed, b.runs)
	if err := cluster.apply(ctx); err != nil {
		return false, err
	}
	if err := until(ctx, cluster.ready); err != nil {
		return false, fmt.Errorf("waiting for the idle cluster: %w", err)
	}
	if err := pause(ctx, b.idle/6); err != nil {
		return false, err
	}
	before, err := b.writes(ctx)
	if err != nil {
		return false, err
	}
	if err := pause(ctx, b.idle); err != nil {
		return false, err
	}
	after, err := b.writes(ctx)
	if err != nil {
		return false, err
	}
	count := int(after - before)
	fmt.Printf("%-44s %10s %10d %7s %7d%s\n", fmt.Sprintf("API writes in %s at rest", b.idle), "", count, "", writesLimit, above(float64(count), writesLimit))
	rss, err := operatorRSS()
	if err != nil {
		return false, err
	}
	fmt.Printf("%-44s %10s %6.0f MiB %7s %3d MiB%s\n", "resident memory of the operator at rest", "", rss, "", rssLimitMiB, above(rss, rssLimitMiB))
	return count <= writesLimit && rss <= rssLimitMiB, cluster.remove(ctx)
}

// writes counts what the API server has been asked to write, by anybody, of the
// resources that the operator writes; at rest nobody else does.
func (b *bench) writes(ctx context.Context) (float64, error) {
	raw, err := b.bed.API.CoreV1().RESTClient().Get().AbsPath("/metrics").Do(ctx).Raw()
	if err != nil {
		return 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("parsing the API server's metrics: %w", err)
	}
	total := 0.0
	for _, m := range families["apiserver_request_total"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if counts(labels) {
			total += m.GetCounter().GetValue()
		}
	}
	return total, nil
}

func counts(labels map[string]string) bool {
	switch labels["verb"] {
	case "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION":
	default:
		return false
	}
	for _, r := range written {
		// The kubelet writes the status of pods.
		if labels["resource"] == r && (r != "pods" || labels["subresource"] == "") {
			return true
		}
	}
	return false
}

// operatorRSS is the largest resident set of the operator's processes on this
// machine, in MiB.
func operatorRSS() (float64, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, fmt.Errorf("looking for the operator: %w", err)
	}
	largest := 0.0
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil || !strings.HasSuffix(strings.SplitN(string(raw), "\x00", 2)[0], "/operator") {
			continue
		}
		if rss, ok := residentMiB(filepath.Join(filepath.Dir(p), "status")); ok {
			largest = max(largest, rss)
		}
	}
	if largest == 0 {
		return 0, errors.New("no process of the operator on this machine: its memory can be measured on the local cluster only")
	}
	return largest, nil
}

func residentMiB(status string) (float64, bool) {
	raw, err := os.ReadFile(status)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / 1024, err == nil
		}
	}
	return 0, false
}
