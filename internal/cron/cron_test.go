package cron

import (
	"strings"
	"testing"
	"time"
)

// TestRefused: what users have written elsewhere, and what has made other parsers
// panic or never fire.
func TestRefused(t *testing.T) {
	for _, tc := range []struct{ schedule, zone, want string }{
		{"", "Etc/UTC", "five fields"},
		{"* * * *", "Etc/UTC", "five fields"},
		{"0 * * * * *", "Etc/UTC", "five fields"},
		{"TZ=0", "Etc/UTC", "five fields"},
		{"CRON_TZ=0", "Etc/UTC", "five fields"},
		{"TZ=0 * * * *", "Etc/UTC", "five fields"},
		{"TZ=UTC 0 * * * *", "Etc/UTC", "five fields"},
		{"@every 1s", "Etc/UTC", "five fields"},
		{"@every 1s * * *", "Etc/UTC", "five fields"},
		{"@daily", "Etc/UTC", "five fields"},
		{"60 * * * *", "Etc/UTC", `"60 * * * *" is not a schedule`},
		{"* 24 * * *", "Etc/UTC", "is not a schedule"},
		{"* * 0 * *", "Etc/UTC", "is not a schedule"},
		{"* * 32 * *", "Etc/UTC", "is not a schedule"},
		{"* * * 13 *", "Etc/UTC", "is not a schedule"},
		{"*/0 * * * *", "Etc/UTC", "is not a schedule"},
		{"- - - - -", "Etc/UTC", "is not a schedule"},
		{"99999999999999999999 * * * *", "Etc/UTC", "is not a schedule"},
		{"0 0 30 2 *", "Etc/UTC", "no such time ever comes"},
		{"0 0 31 2 *", "Etc/UTC", "no such time ever comes"},
		{"0 0 31 4,6,9,11 *", "Etc/UTC", "no such time ever comes"},
		{"0 3 * * *", "", "is not a time zone"},
		{"0 3 * * *", "Local", "is not a time zone"},
		{"0 3 * * *", "Europe/Nowhere", "is not a time zone"},
		{"0 3 * * *", "PST", "Area/City as in Europe/Berlin or America/New_York"},
		{"0 3 * * *", "../../etc/passwd", "is not a time zone"},
		{"0 3 * * *", "0", "is not a time zone"},
	} {
		_, err := Parse(tc.schedule, tc.zone)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Count(err.Error(), " — ") != 2 {
			t.Errorf("Parse(%q, %q) = %v, want %q and three parts", tc.schedule, tc.zone, err, tc.want)
		}
	}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	out, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNextAndLatest(t *testing.T) {
	for name, tc := range map[string]struct{ schedule, zone, from, now, next, latest string }{
		"every day, not yet":          {"0 3 * * *", "Etc/UTC", "2026-01-01T00:00:00Z", "2026-01-01T02:59:59Z", "2026-01-01T03:00:00Z", ""},
		"every day, just now":         {"0 3 * * *", "Etc/UTC", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z", "2026-01-01T03:00:00Z", "2026-01-01T03:00:00Z"},
		"not twice":                   {"0 3 * * *", "Etc/UTC", "2026-01-01T03:00:00Z", "2026-01-01T23:00:00Z", "2026-01-02T03:00:00Z", ""},
		"three missed are one":        {"0 3 * * *", "Etc/UTC", "2026-01-01T03:00:00Z", "2026-01-04T10:00:00Z", "2026-01-02T03:00:00Z", "2026-01-04T03:00:00Z"},
		"fifty years of minutes":      {"* * * * *", "Etc/UTC", "1976-01-01T00:00:00Z", "2026-01-04T10:00:30Z", "1976-01-01T00:01:00Z", "2026-01-04T10:00:00Z"},
		"on the 29th of February":     {"0 0 29 2 *", "Etc/UTC", "2025-03-01T00:00:00Z", "2030-01-01T00:00:00Z", "2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"},
		"in Berlin, summer":           {"0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T02:00:00Z", "2026-07-01T01:00:00Z", "2026-07-01T01:00:00Z"},
		"in Berlin, winter":           {"0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T02:00:00Z"},
		"an hour that comes twice":    {"30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T12:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T01:30:00Z"},
		"the clock was set back":      {"0 3 * * *", "Etc/UTC", "2026-02-01T03:00:00Z", "2026-01-04T10:00:00Z", "2026-02-02T03:00:00Z", ""},
		"a weekday":                   {"0 3 * * sun", "Etc/UTC", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-04T03:00:00Z", "2026-01-04T03:00:00Z"},
		"every quarter of an hour":    {"*/15 * * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T00:46:00Z", "2026-01-01T00:15:00Z", "2026-01-01T00:45:00Z"},
		"the 31st or a Monday (both)": {"0 0 31 2 1", "Etc/UTC", "2026-02-01T00:00:00Z", "2026-02-03T00:00:00Z", "2026-02-02T00:00:00Z", "2026-02-02T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse(tc.schedule, tc.zone)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Next(at(t, tc.from)); !got.Equal(at(t, tc.next)) {
				t.Errorf("Next() = %s, want %s", got, tc.next)
			}
			want := time.Time{}
			if tc.latest != "" {
				want = at(t, tc.latest)
			}
			if got := s.Latest(at(t, tc.from), at(t, tc.now)); !got.Equal(want) {
				t.Errorf("Latest() = %s, want %s", got, tc.latest)
			}
		})
	}
}

// TestSpringForward: a day on which the hour does not exist is not left out.
func TestSpringForward(t *testing.T) {
	s, err := Parse("30 2 * * *", "Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	day := at(t, "2026-03-28T12:00:00Z")
	due := s.Next(day)
	if due.IsZero() || due.After(day.Add(24*time.Hour)) {
		t.Errorf("Next() = %s, want one within the day", due)
	}
}

// FuzzParse: whatever is written, nothing panics, and what is taken is due some day.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"0 3 * * *", "TZ=0", "*/5 1-3,5 L * 1#2", "@every 1s", "0 0 30 2 *", "? ? ? ? ?"} {
		f.Add(s, "Etc/UTC")
	}
	f.Fuzz(func(t *testing.T, schedule, zone string) {
		s, err := Parse(schedule, zone)
		if err != nil {
			return
		}
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		if next := s.Next(from); !next.After(from) {
			t.Errorf("%q in %q is due at %s after %s", schedule, zone, next, from)
		}
	})
}
