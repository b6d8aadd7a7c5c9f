package member

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// death is what a real etcd wrote when it ended, from the first line that tells why
// to the first frame of its stack, without the rest of the log.
type death struct {
	name, log string
	want      Reason
}

// deaths reads testdata/deaths.txt: recorded ends of etcd 3.5.35, 3.6.16 and 3.7.3,
// each under a line "== etcd <version>: <what was done to it>: exit code <n>: <reason>".
func deaths(t *testing.T) []death {
	t.Helper()
	content, err := os.ReadFile("testdata/deaths.txt")
	must(t, err)
	heading := regexp.MustCompile(`(?m)^== (etcd .*): exit code \d+: (.*)\n`)
	var all []death
	for _, at := range heading.FindAllSubmatchIndex(content, -1) {
		d := death{name: string(content[at[2]:at[3]]), want: Reason(content[at[4]:at[5]])}
		if d.want == "nothing told" {
			d.want = ""
		}
		d.log, _, _ = strings.Cut(string(content[at[1]:]), "\n== etcd ")
		all = append(all, d)
	}
	if len(all) < 60 {
		t.Fatalf("%d deaths, want all that were recorded", len(all))
	}
	return all
}

// before is a log before its end. What etcd says there of damage is no death.
const before = `{"level":"info","ts":"2026-11-21T04:25:02.004245Z","caller":"etcdserver/storage.go:110","msg":"repaired WAL","error":"unexpected EOF"}
{"level":"warn","ts":"2026-11-21T04:25:02.004303Z","caller":"wal/util.go:90","msg":"ignored file in WAL directory","path":"0.wal.broken"}
{"level":"error","ts":"2026-11-21T04:25:02.004303Z","caller":"etcdserver/corrupt.go:120","msg":"walpb: crc mismatch of a peer"}
`

// after is the rest of a stack trace, longer than what the kubelet keeps of a log.
var after = strings.Repeat("\ngoroutine 2 gp=0x33f56b622d20 m=nil [GC worker (idle)]:\nruntime.gopark(0xb7d02551b25?, 0x33f56b4637a8?)\n", 100)

func TestRealDeaths(t *testing.T) {
	for _, d := range deaths(t) {
		t.Run(d.name, func(t *testing.T) {
			for _, size := range []int{1, 7, 4096, 1 << 20} {
				var w lastWords
				for part := range slices.Chunk([]byte(before+d.log+after), size) {
					if n, err := w.Write(part); n != len(part) || err != nil {
						t.Fatalf("wrote %d of %d bytes, %v", n, len(part), err)
					}
				}
				if got := w.reason(); got != d.want {
					t.Errorf("in parts of %d bytes: reason %q, want %q; it said: %s", size, got, d.want, w.String())
				}
			}
			if got, want := Corruption(before+d.log), d.want == ReasonDataCorrupt; got != want {
				t.Errorf("corruption by the log's end: %v, want %v", got, want)
			}
		})
	}
}

// What the guard writes is what the operator reads.
func TestCorruptionUnderstandsTheGuard(t *testing.T) {
	p := place{identity: own}
	for _, d := range deaths(t) {
		var w lastWords
		_, _ = w.Write([]byte(d.log + "\n"))
		if d.want == "" {
			continue
		}
		message := oneLine(p.obituary(d.want, 2, w.String()))
		if got, want := Corruption(message), d.want == ReasonDataCorrupt; got != want {
			t.Errorf("%s: corruption %v, want %v: %s", d.name, got, want, message)
		}
		if strings.Count(message, " — ") != 2 || !strings.HasPrefix(message, string(d.want)+": etcd of member m-0000 ended with code 2: ") {
			t.Errorf("%s: message %q, want one line: what — why — what to do", d.name, message)
		}
	}
}

func TestCorruption(t *testing.T) {
	fatal := func(message, err string) string {
		return fmt.Sprintf(`{"level":"fatal","ts":"2026-11-21T04:25:02Z","caller":"x.go:1","msg":%q,"error":%q,"stacktrace":"x"}`, message, err)
	}
	for name, tc := range map[string]struct {
		message string
		want    bool
	}{
		"nothing":                                {"", false},
		"a bad disk":                             {fatal("failed to save Raft hard state and entries", "write 0.wal: input/output error"), true},
		"a disk that turned read-only":           {fatal("failed to save Raft hard state and entries", "write 0.wal: read-only file system"), true},
		"a full disk":                            {fatal("failed to save Raft hard state and entries", "write 0.wal: no space left on device"), false},
		"a full disk, in the words of a bad one": {fatal("failed to read WAL, cannot be repaired", "open 0.wal: no space left on device"), false},
		"too many files":                         {fatal("failed to open WAL", "wal: open 0.wal: too many open files"), false},
		"a snapshot's checksum":                  {fatal("failed to load snapshot", "snap: crc mismatch"), true},
		"a page of the wrong type":               {"panic: invalid page type: 0: 4\n\ngoroutine 1 [running]:\ngo.etcd.io/bbolt.(*Cursor).search(0x1)\n", true},
		"a freelist":                             {"panic: freepages: failed to get all reachable pages (page 5: multiple references (stack: [7 5]))\n", true},
		"bbolt falls over a page":                {"panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:\ngo.etcd.io/bbolt.(*node).read(0x1)\n", true},
		"etcd falls over something else":         {"panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:\ngo.etcd.io/etcd/server/v3/etcdserver.(*EtcdServer).run(0x1)\n", false},
		"out of memory":                          {"fatal error: runtime: out of memory\n\nruntime stack:\n", false},
		"in the console's format":                {"2026-11-21T04:25:02.087Z\tfatal\tetcdmain/etcd.go:183\tdiscovery failed\t{\"error\": \"walpb: crc mismatch\"}\n", true},
		"a warning in the console's format":      {"2026-11-21T04:25:02.087Z\twarn\tetcdmain/etcd.go:183\twalpb: crc mismatch\n", false},
		"a fatal line that was cut off":          {fatal("discovery failed", "walpb: crc mismatch")[:130], true},
		"the guard's refusal":                    {"DataMissing: volume v-1 of member m-0000: found wal: proto: nothing — x — y", false},
		"the guard's word":                       {"DataCorrupt: etcd of member m-0000 ended with code 2: x — y — z", true},
		"the guard cannot lock a read-only disk": {"VolumeUnusable: volume v-1 of member m-0000: opening lock: open /v/lock: read-only file system — x — y", true},
		"the guard cannot read a broken disk":    {"VolumeUnusable: volume v-1 of member m-0000: reading marker: input/output error — x — y", true},
		"the guard cannot lock a full disk":      {"VolumeUnusable: volume v-1 of member m-0000: opening lock: open /v/lock: no space left on device — x — y", false},
		"another's word":                         {"Error: crc mismatch", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Corruption(tc.message); got != tc.want {
				t.Errorf("corruption %v, want %v", got, tc.want)
			}
		})
	}
}

func TestLastWordsAreBounded(t *testing.T) {
	var w lastWords
	for range 100 {
		_, _ = w.Write([]byte("panic: " + strings.Repeat("x", 1<<20)))
		_, _ = w.Write([]byte(strings.Repeat("y", 1<<20) + fmt.Sprint(len(w.cause)) + "\n"))
	}
	if got := len(w.String()); got > maxCause*(maxTold+10) || cap(w.line) > 2*maxLine {
		t.Errorf("%d bytes of cause, %d of a line", got, cap(w.line))
	}
}
