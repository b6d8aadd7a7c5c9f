// Package cron tells when a schedule is due. It is pure: the time is a parameter. No
// input makes it panic: what cannot be a schedule is an error, with words for the
// user.
package cron

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the operator's image holds nothing but the operator

	gocron "github.com/netresearch/go-cron"
)

// Schedule is when something is due: whole minutes.
type Schedule struct {
	spec gocron.Schedule
	zone *time.Location
}

// errNever is of a schedule that parses and is never due, such as the 30th of
// February. Without it, "no next time" would read as "due since long ago".
var errNever = errors.New("no such time ever comes")

// Parse reads a schedule of five fields and the IANA name of a time zone. The zone
// is never taken from the schedule itself ("TZ=…"), nor from the machine.
func Parse(schedule, zone string) (Schedule, error) {
	location, err := location(zone)
	if err != nil {
		return Schedule{}, err
	}
	spec, err := parse(schedule)
	if err == nil && next(spec, time.Date(2000, 1, 1, 0, 0, 0, 0, location)).IsZero() {
		err = errNever
	}
	if err != nil {
		return Schedule{}, fmt.Errorf("%q is not a schedule: %w — no backup would ever be made — use five fields such as \"0 3 * * *\" for every day at three", schedule, err)
	}
	return Schedule{spec, location}, nil
}

func location(zone string) (*time.Location, error) {
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "" || strings.EqualFold(zone, "local") {
		return nil, fmt.Errorf("%q is not a time zone that is known here — it would not be known when a backup is due — use a name of the IANA database, Area/City as in Europe/Berlin or America/New_York, or Etc/UTC; an abbreviation such as CEST or PST means a zone only together with a place", zone)
	}
	return location, nil
}

// parse takes nothing but five fields: no seconds, no years, no "@every 1ms", no
// "TZ=". A parser that panics on some input has refused it.
func parse(schedule string) (spec gocron.Schedule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	if strings.ContainsAny(schedule, "@=") || len(strings.Fields(schedule)) != 5 {
		return nil, errors.New("it has not five fields")
	}
	// As everywhere else, a day of the month and a day of the week mean either of them.
	parser, err := gocron.TryNewParser(gocron.Minute | gocron.Hour | gocron.Dom | gocron.Month | gocron.Dow | gocron.DowOrDom)
	if err != nil {
		return nil, fmt.Errorf("making a parser: %w", err)
	}
	spec, err = parser.Parse(schedule)
	if err != nil {
		return nil, fmt.Errorf("parsing: %w", err)
	}
	return spec, nil
}

// next is the first time after t, or zero if there is none or the library fails.
func next(spec gocron.Schedule, t time.Time) (due time.Time) {
	defer func() {
		if recover() != nil {
			due = time.Time{}
		}
	}()
	return spec.Next(t)
}

// Next is the first time after t at which the schedule is due; zero if there is none.
// It is always later than t.
func (s Schedule) Next(t time.Time) time.Time {
	due := next(s.spec, t.In(s.zone))
	if !due.After(t) {
		return time.Time{}
	}
	return due.UTC()
}

// Latest is the last time after from, and not after now, at which the schedule was
// due; zero if there was none. However long ago from is, it looks some thirty times:
// whether a time lies between x and now is true up to the latest one and false from
// there on.
func (s Schedule) Latest(from, now time.Time) time.Time {
	due := func(x time.Time) (time.Time, bool) {
		t := s.Next(x)
		return t, !t.IsZero() && !t.After(now)
	}
	latest, was := due(from)
	if !was {
		return time.Time{}
	}
	for low, high := latest, now; high.Sub(low) > time.Second; {
		middle := low.Add(high.Sub(low) / 2)
		if t, later := due(middle); later {
			latest, low = t, t
		} else {
			high = middle
		}
	}
	return latest
}

// Zone is the time zone that the schedule is meant in.
func (s Schedule) Zone() *time.Location { return s.zone }
