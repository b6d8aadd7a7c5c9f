package store

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches give up a rule each of what counts as missing, and of what is told.
var breaches = map[string]mutants.Mutant{
	"any 404 is a missing object":           mutants.Of("errors.go", "return slices.Contains(missing, answerOf(err).code) ||", "return answerOf(err).status == 404 || slices.Contains(missing, answerOf(err).code) ||"),
	"a missing Secret is a missing object":  mutants.Of("errors.go", "if s.directory != \"\" {\n\t\treturn errors.Is", "if true {\n\t\treturn errors.Is"),
	"what S3 misses is not missing":         mutants.Of("errors.go", `"NoSuchKey", string(`, `string(`),
	"what Azure misses is not missing":      mutants.Of("errors.go", `, string(bloberror.BlobNotFound)}`, `, "no " + string(bloberror.BlobNotFound)}`),
	"what Google misses is not missing":     mutants.Of("clouds.go", `{"NoSuchKey": objectIsMissing, `, `{`),
	"Google's bucket is an object":          mutants.Of("clouds.go", `"NoSuchBucket": bucketIsMissing`, `"NoSuchBucket": objectIsMissing`),
	"Google's bucket is one to delete":      mutants.Of("clouds.go", "return bucketIsMissing\n", "return objectIsMissing\n"),
	"Google's bucket is not asked for":      mutants.Of("clouds.go", "err = t.askForBucket(r)", "err = nil"),
	"Google's bucket may be hidden":         mutants.Of("clouds.go", `return fmt.Errorf("%s for the bucket of what is missing", answer.Status)`, "return nil"),
	"it asks before it deletes":             mutants.Of("store.go", "if remove == nil {", "if remove != nil {"),
	"a part that is cut ends an upload":     mutants.Of("clouds.go", "storage.WithErrorFunc(storage.ShouldRetry), ", ""),
	"Google's client believes a proxy":      mutants.Of("clouds.go", "if json.Unmarshal(said, &wrapped) != nil || wrapped.Error.Code != http.StatusNotFound {", "if json.Unmarshal(said, &wrapped); false {"),
	"S3 is asked in silence":                mutants.Of("s3.go", "o.APIOptions = append(o.APIOptions, s.noticeS3)", ""),
	"Google is asked in silence":            mutants.Of("clouds.go", "noticing{store: s, base: ownWords{base: authorized, bucket: bucket}}", "ownWords{base: authorized, bucket: bucket}"),
	"Azure is asked in silence":             mutants.Of("clouds.go", "[]policy.Policy{notice}", "[]policy.Policy(nil)"),
	"an answer in trouble is a good one":    mutants.Of("notice.go", "status >= http.StatusInternalServerError &&", "false &&"),
	"an address is told with its query":     mutants.Of("notice.go", "plainly(err)", "err"),
	"Go's dialer waits":                     mutants.Of("clouds.go", "Timeout: connectTimeout, ", ""),
	"what is sent goes out at once":         mutants.Of("clouds.go", "paceOf(c.SendRate)", "paceOf(0)"),
	"who gives up waits for the rate":       mutants.Of("pace.go", "close(c.closed) })", "})"),
	"each connection has a rate of its own": mutants.Of("pace.go", "Conn: conn, pace: p,", "Conn: conn, pace: paceOf(int64(p.limit.Limit())),"),
	"nobody says whose identity it was":     mutants.Of("errors.go", "case !s.ownIdentity:", "case true:"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) { mutants.Placed(t, breaches) }

// TestMutants runs the guards against each.
func TestMutants(t *testing.T) {
	mutants.Caught(t, breaches, "-run=^(TestWhoSaysThatItIsMissing|TestAMissingFile|TestARequestThatFails|TestAnAddress|TestWithoutCredentials|TestSending)", "-run=^TestPartsAreSentAgain")
}
