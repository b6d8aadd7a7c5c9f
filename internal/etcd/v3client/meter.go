package v3client

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/etcd"
)

var _ etcd.Meter = (*Pool)(nil)

// What etcd calls its figures, in all releases since 3.0.
const (
	fsyncSum   = "etcd_disk_wal_fsync_duration_seconds_sum "
	fsyncCount = "etcd_disk_wal_fsync_duration_seconds_count "
)

// Fsyncs reads a member's metrics as far as the figures of its log: they are a seventh of
// some 130 kB, which are sorted by name.
func (p *Pool) Fsyncs(ctx context.Context, group string, to etcd.Endpoint, as etcd.Credentials) (etcd.Fsyncs, error) {
	p.mu.Lock()
	who, err := p.identity(group, as)
	p.mu.Unlock()
	if err != nil {
		return etcd.Fsyncs{}, fmt.Errorf("reading the metrics of %s: %w", to.Address, err)
	}
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true, TLSHandshakeTimeout: connectTimeout}
	if !who.plaintext() && !to.Plaintext {
		scheme, transport.TLSClientConfig = "https", who.config(to)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+to.Address+"/metrics", nil)
	if err != nil {
		return etcd.Fsyncs{}, fmt.Errorf("reading the metrics of %s: %w", to.Address, err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return etcd.Fsyncs{}, fmt.Errorf("reading the metrics of %s: %w: %w", to.Address, etcd.ErrUnreachable, err)
	}
	defer response.Body.Close()
	var found etcd.Fsyncs
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), fsyncSum); ok {
			seconds, _ := strconv.ParseFloat(text, 64)
			found.Took = time.Duration(seconds * float64(time.Second))
		}
		if text, ok := strings.CutPrefix(lines.Text(), fsyncCount); ok { // it comes last
			count, err := strconv.ParseFloat(text, 64)
			found.Count = uint64(count)
			return found, err
		}
	}
	if err := lines.Err(); err != nil {
		return etcd.Fsyncs{}, fmt.Errorf("reading the metrics of %s: %w: %w", to.Address, etcd.ErrUnreachable, err)
	}
	return etcd.Fsyncs{}, fmt.Errorf("reading the metrics of %s: %w: status %d, and nothing of the log's syncs", to.Address, etcd.ErrUnreachable, response.StatusCode)
}
