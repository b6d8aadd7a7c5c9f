package snapshot

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// throughputMiB of data by default: enough that an upload takes several parts, and
// more than a process that kept it all would be allowed. QUORATE_BENCH_MIB makes it
// a measurement.
const throughputMiB = 192

// maxRSS is what a save and a drill, without the etcd that it starts, may take, in KiB, however much is saved.
const maxRSS = 96 << 10

// minRatio of the throughput of etcdctl and zstd, which read nothing back.
const minRatio = 0.8

// A backup takes about as long as etcdctl and zstd to a local disk in the same run,
// and no more memory for more data.
func TestThroughput(t *testing.T) {
	size, measuring := throughputMiB, os.Getenv("QUORATE_BENCH_MIB") != ""
	if measuring {
		var err error
		if size, err = strconv.Atoi(os.Getenv("QUORATE_BENCH_MIB")); err != nil {
			t.Fatal(err)
		}
	}
	source := startEtcd(t, "3.6.16")
	fill(t, source, size)
	store := s3Bucket(t)
	var ours, theirs []time.Duration
	for range 3 {
		theirs = append(theirs, byEtcdctl(t, source))
		began := time.Now()
		saved := store.save(t, source).mustSucceed(t)
		ours = append(ours, time.Since(began))
		if saved.rss > maxRSS {
			t.Errorf("saving %d MiB took %d KiB of memory, at most %d are allowed", size, saved.rss, maxRSS)
		}
		t.Logf("%d MiB: backup %s with %d KiB of memory, %d bytes stored; etcdctl and zstd %s",
			size, ours[len(ours)-1].Round(time.Millisecond), saved.rss, saved.result.Backup.StoredBytes, theirs[len(theirs)-1].Round(time.Millisecond))
	}
	drilled := store.drill(t, "3.6.16").mustSucceed(t)
	if drilled.rss > maxRSS {
		t.Errorf("the drill of %d MiB took %d KiB of memory, at most %d are allowed", size, drilled.rss, maxRSS)
	}
	// etcd maps its database, which is memory of the page cache; the rest is etcd's to decide.
	t.Logf("the drill took %d KiB of memory, and %d with etcd and etcdutl", drilled.rss, drilled.all)
	ratio := fastest(theirs).Seconds() / fastest(ours).Seconds()
	t.Logf("throughput is %.2f of that of etcdctl and zstd", ratio)
	if measuring && ratio < minRatio {
		t.Errorf("throughput is %.2f of that of etcdctl and zstd, want at least %.2f", ratio, minRatio)
	}
}

func fastest(all []time.Duration) time.Duration {
	best := all[0]
	for _, d := range all {
		best = min(best, d)
	}
	return best
}

// fill writes values of which half can be compressed.
func fill(t *testing.T, e *etcd, mib int) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{2})
	value := make([]byte, 1<<20)
	for i := range mib {
		_, _ = random.Read(value[:len(value)/2])
		if _, err := e.client.Put(t.Context(), fmt.Sprintf("fill/%06d", i), string(value)); err != nil {
			t.Fatal(err)
		}
	}
}

// byEtcdctl is what one would do by hand.
func byEtcdctl(t *testing.T, e *etcd) time.Duration {
	t.Helper()
	file := filepath.Join(t.TempDir(), "by-hand.db")
	began := time.Now()
	script := exec.Command("sh", "-ec", `"$0" --endpoints="$1" --cacert="$2" --cert="$2" --key="$3" snapshot save "$4" >/dev/null && zstd -q -1 --rm "$4"`,
		tool(t, e.version, "etcdctl"), e.clientURL, e.pair.certFile, e.pair.keyFile, file)
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl and zstd: %v\n%s", err, out)
	}
	return time.Since(began)
}
