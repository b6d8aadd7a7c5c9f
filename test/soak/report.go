package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/test/load"
)

// Report of a run.
type Report struct {
	Verdict  string    `json:"verdict"`
	Seed     uint64    `json:"seed"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Duration string    `json:"duration"`
	// Failures are why the verdict is FAIL.
	Failures []string      `json:"failures,omitempty"`
	Faults   []FaultReport `json:"faults"`
	// Kinds of faults, and how often the operator was killed in the midst of each.
	Kinds map[string]KindReport `json:"kinds"`
	Loads []LoadReport          `json:"loads"`
	// OperatorKills are the kills by the soak; OperatorRestarts all restarts of
	// the operator's containers.
	OperatorKills    int `json:"operatorKills"`
	OperatorRestarts int `json:"operatorRestarts"`
	// Looks is how often the clusters were watched for broken promises.
	Looks int `json:"looks"`
}

// FaultReport is one fault.
type FaultReport struct {
	Name    string    `json:"name"`
	Cluster string    `json:"cluster"`
	Began   time.Time `json:"began"`
	// Seconds until it was undone, and from then until everything was well.
	Seconds         float64 `json:"seconds"`
	RecoverySeconds float64 `json:"recoverySeconds"`
	// Note says what it did.
	Note string `json:"note,omitempty"`
	// Gaps are the longest times without an acknowledged write, in
	// milliseconds, by cluster, from the beginning to the recovery.
	Gaps  map[string]float64 `json:"gapMilliseconds"`
	Error string             `json:"error,omitempty"`

	// OperatorKilled is how many seconds after the beginning the operator was killed;
	// absent if it was not.
	OperatorKilled *float64 `json:"operatorKilledAfterSeconds,omitempty"`
	// Amid says that the cluster was not yet well then.
	Amid bool `json:"operatorKilledAmid,omitempty"`

	undone time.Time
}

// struck notes when the operator was killed.
func (f *FaultReport) struck(k *strike) {
	if k == nil || k.at.IsZero() {
		return
	}
	after := k.at.Sub(f.Began).Seconds()
	f.OperatorKilled, f.Amid = &after, k.amid
	f.Note = strings.TrimPrefix(fmt.Sprintf("%s; operator killed after %.1f s, %s", f.Note, after, k.words()), "; ")
}

// words for the report.
func (k *strike) words() string {
	when, how := "in its midst", "its Lease runs out"
	if !k.amid {
		when = "when all was well"
	}
	if k.lease == taken {
		how = "its Lease is taken"
	}
	return when + ", " + how
}

// KindReport is what became of one kind of fault.
type KindReport struct {
	// Rounds it was dealt, and in how many of them the operator was killed in its midst.
	Rounds, OperatorKilledAmid int
}

// kinds of faults, by name.
func (r *Report) kinds() map[string]KindReport {
	out := map[string]KindReport{}
	for _, f := range r.Faults {
		k := out[f.Name]
		k.Rounds++
		if f.Amid && f.Error == "" {
			k.OperatorKilledAmid++
		}
		out[f.Name] = k
	}
	return out
}

// LoadReport is what the load on a cluster found.
type LoadReport struct {
	Cluster string `json:"cluster"`
	*load.Report
}

func (f *FaultReport) end(subjects []*subject, err error) {
	now := time.Now()
	f.Seconds, f.RecoverySeconds = f.undone.Sub(f.Began).Seconds(), now.Sub(f.undone).Seconds()
	f.Gaps = map[string]float64{}
	for _, x := range subjects {
		f.Gaps[x.Name] = float64(x.load.Gap(f.Began, now).Length().Microseconds()) / 1000
	}
	if err != nil {
		f.Error = err.Error()
	}
}

func (f *FaultReport) line() string {
	text := fmt.Sprintf("%6.1f s, well after %5.1f s, gap %6.0f ms  %s", f.Seconds, f.RecoverySeconds, f.Gaps[f.Cluster], f.Note)
	if f.Error != "" {
		text += "  FAILED: " + f.Error
	}
	return text
}

func (r *Report) fail(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// Passed says that nothing failed.
func (r *Report) Passed() bool { return len(r.Failures) == 0 }

func (r *Report) write(dir string) error {
	r.Verdict = "PASS"
	if !r.Passed() {
		r.Verdict = "FAIL"
	}
	r.Kinds = r.kinds()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	for name, content := range map[string]string{"report.json": string(text) + "\n", "report.md": r.markdown()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	return nil
}

func (r *Report) summary() string {
	var out strings.Builder
	for _, l := range r.Loads {
		out.WriteString(l.String() + "\n")
	}
	for _, f := range r.Failures {
		out.WriteString("FAILED: " + f + "\n")
	}
	fmt.Fprintf(&out, "soak: %s: %d faults in %s, seed %d, operator killed %d times (%d restarts)\n",
		r.Verdict, len(r.Faults), r.Ended.Sub(r.Began).Round(time.Second), r.Seed, r.OperatorKills, r.OperatorRestarts)
	return out.String()
}

func (r *Report) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "# Soak: %s\n\n", r.Verdict)
	fmt.Fprintf(&out, "Seed %d, %s of faults, %s to %s. The operator was killed %d times and restarted %d times. The clusters were watched %d times.\n\n",
		r.Seed, r.Duration, r.Began.Format(time.RFC3339), r.Ended.Format(time.RFC3339), r.OperatorKills, r.OperatorRestarts, r.Looks)
	for _, f := range r.Failures {
		fmt.Fprintf(&out, "- **failed**: %s\n", f)
	}
	out.WriteString("\n## Faults\n\n| at | fault | cluster | lasted | well after | longest gap | |\n|---|---|---|---|---|---|---|\n")
	for _, f := range r.Faults {
		fmt.Fprintf(&out, "| %s | %s | %s | %.1f s | %.1f s | %.0f ms | %s%s |\n", f.Began.Format("15:04:05"), f.Name, f.Cluster,
			f.Seconds, f.RecoverySeconds, f.Gaps[f.Cluster], f.Note, cell(f.Error))
	}
	out.WriteString("\n## Kinds\n\n| fault | rounds | operator killed in its midst |\n|---|---|---|\n")
	kinds := r.kinds()
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(&out, "| %s | %d | %d |\n", name, kinds[name].Rounds, kinds[name].OperatorKilledAmid)
	}
	out.WriteString("\n## Histories\n\n")
	for _, l := range r.Loads {
		fmt.Fprintf(&out, "### %s\n\n```\n%s\n```\n\n", l.Cluster, l.String())
	}
	return out.String()
}

func cell(text string) string { return strings.NewReplacer("\n", " ", "|", "/").Replace(text) }
