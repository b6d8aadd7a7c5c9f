package resources

import (
	_ "embed" // for the table of flags
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/api/v1alpha1"
)

// etcdFlagTable has a line for each flag of etcd that may stand in extraArgs: its name,
// what it takes, and the minor releases that know it. Real binaries are held against it in
// test/integration/api.
//
//go:embed etcdflags.txt
var etcdFlagTable string

// EtcdFlag is a flag of etcd.
type EtcdFlag struct {
	// Name without dashes.
	Name string
	// Takes is what its value must be: text, bool, number, duration, gates
	// (of features) or origins (URLs).
	Takes string
	// Minors are the minor releases that know it: "3.6" for example.
	Minors []string
}

// EtcdFlags are the flags that may stand in extraArgs.
func EtcdFlags() []EtcdFlag { return slices.Clone(flagTable) }

var flagTable = parseFlags(etcdFlagTable)

func parseFlags(table string) []EtcdFlag {
	var out []EtcdFlag
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			panic(fmt.Sprintf("the table of flags has a line that is none: %q", line))
		}
		out = append(out, EtcdFlag{Name: fields[0], Takes: fields[1], Minors: strings.Split(fields[2], ",")})
	}
	return out
}

// OptionTrouble says which of spec.etcd.extraArgs etcd of spec.version would not start
// with; empty if it takes all of them. A minor release that is not in the table is
// believed to take any.
func OptionTrouble(c *v1alpha1.EtcdCluster) string {
	for _, name := range sortedKeys(c.Spec.Etcd.ExtraArgs) {
		if why := flagTrouble(name, c.Spec.Etcd.ExtraArgs[name], minor(c)); why != "" {
			return fmt.Sprintf("spec.etcd.extraArgs: %s — etcd %s would not start with it, so nobody is restarted for it — correct it", why, c.Spec.Version)
		}
	}
	return ""
}

func flagTrouble(name, value, minor string) string {
	if !slices.ContainsFunc(flagTable, func(f EtcdFlag) bool { return slices.Contains(f.Minors, minor) }) {
		return ""
	}
	i := slices.IndexFunc(flagTable, func(f EtcdFlag) bool { return f.Name == name })
	switch {
	case i < 0:
		return fmt.Sprintf("etcd has no flag %s%s", name, nearest(name, minor))
	case !slices.Contains(flagTable[i].Minors, minor):
		return fmt.Sprintf("etcd %s has no flag %s, which only %s knows%s", minor, name, strings.Join(flagTable[i].Minors, " and "), nearest(name, minor))
	case !takes(flagTable[i].Takes, value):
		return fmt.Sprintf("%s takes a %s and not %q", name, flagTable[i].Takes, value)
	}
	return ""
}

func takes(kind, value string) bool {
	var err error
	switch kind {
	case "bool":
		_, err = strconv.ParseBool(value)
	case "number":
		_, err = strconv.ParseInt(value, 0, 64)
	case "origins":
		for origin := range strings.SplitSeq(value, ",") {
			if u, bad := url.Parse(origin); origin != "*" && origin != "" && (bad != nil || u.Port() == "" || !slices.Contains([]string{"http", "https", "unix", "unixs"}, u.Scheme)) {
				return false
			}
		}
	case "gates":
		for gate := range strings.SplitSeq(value, ",") {
			_, is, set := strings.Cut(gate, "=")
			if _, bad := strconv.ParseBool(is); gate != "" && (!set || bad != nil) {
				return false
			}
		}
	case "duration":
		_, err = time.ParseDuration(value)
	}
	return err == nil
}

// nearest names the flag of the release that was probably meant; nothing if there is none.
func nearest(name, minor string) string {
	best, least := "", 4
	for _, f := range flagTable {
		if !slices.Contains(f.Minors, minor) {
			continue
		}
		if d := distance(strings.TrimPrefix(name, "experimental-"), strings.TrimPrefix(f.Name, "experimental-")); d < least {
			best, least = f.Name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance is how many letters have to be put in, taken out or changed to get from one
// word to the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// known are the user's flags that etcd of this release takes. A pod that has to be made
// while a flag is wrong is made without it: a typo must not keep a member down.
func known(extra map[string]string, minor string) map[string]string {
	out := map[string]string{}
	for name, value := range extra {
		if flagTrouble(name, value, minor) == "" {
			out[name] = value
		}
	}
	return out
}
