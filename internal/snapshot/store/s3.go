package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob/s3blob"

	"github.com/quorate/quorate/internal/snapshot"
)

// credentialsLife is how long credentials from files are used before the files are
// read again: no longer than the pause before a second attempt, which would only fail once
// more with those that have expired.
const credentialsLife = 5 * time.Second

func (s *Store) openS3(ctx context.Context, c Config, bucket string) error {
	transport, err := transportOptions(c)
	if err != nil {
		return err
	}
	// The SDK's own client, since only to that does it add what AWS_CA_BUNDLE names.
	client := awshttp.NewBuildableClient().WithTransportOptions(transport)
	region := c.S3Region
	if region == "" {
		region = "us-east-1"
	}
	// Stores that are only compatible often refuse the checksums that AWS's SDK
	// adds since 2025. Ours lie in the manifest, and the object is read back.
	checksum, validation := aws.RequestChecksumCalculationWhenSupported, aws.ResponseChecksumValidationWhenSupported
	if c.Endpoint != "" {
		checksum, validation = aws.RequestChecksumCalculationWhenRequired, aws.ResponseChecksumValidationWhenRequired
	}
	options := []func(*config.LoadOptions) error{
		config.WithRegion(region), config.WithHTTPClient(client), config.WithRetryer(retryer(unvouched)),
		config.WithRequestChecksumCalculation(checksum), config.WithResponseChecksumValidation(validation),
	}
	if c.Credentials != "" {
		files := newFileCredentials(c.Credentials)
		if _, err := files.Retrieve(ctx); err != nil {
			return err
		}
		options = append(options, config.WithCredentialsProvider(files.cache), config.WithRetryer(retryer(unvouched, files.renewed)))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "no configuration for %s: %s — the store cannot be asked — check the environment of the pod", s.name, plainly(err))
	}
	api := s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = c.S3PathStyle
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
		o.APIOptions = append(o.APIOptions, s.noticeS3)
	})
	s.bucket, err = s3blob.OpenBucket(ctx, api, bucket, &s3blob.Options{RequestChecksumCalculation: checksum})
	if err != nil {
		return usage("the store is %q", s.name)
	}
	// gocloud.dev asks first, by a request whose answer has no words: a proxy that does not
	// know the store would have the object taken for deleted.
	s.remove = func(ctx context.Context, key string) error {
		_, err := api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
		return err
	}
	s.uploads = func(ctx context.Context, prefix string, before time.Time) (int, error) {
		return abortS3(ctx, s, api, bucket, prefix, before)
	}
	return nil
}

// retryer tries again what every client of S3 does, unless one of these knows better.
func retryer(rules ...func(error) aws.Ternary) func() aws.Retryer {
	var own []retry.IsErrorRetryable
	for _, rule := range rules {
		own = append(own, retry.IsErrorRetryableFunc(rule))
	}
	return func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.Retryables = mostFailures, append(slices.Clone(own), o.Retryables...)
		})
	}
}

// unvouched says that there were no credentials to sign a request with. Whoever was asked for
// them was asked several times already, and would be as often for each try.
func unvouched(err error) aws.Ternary {
	if strings.Contains(err.Error(), "get identity: ") {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// abortS3 aborts old multipart uploads: their parts are paid for and seen by no list
// of objects.
func abortS3(ctx context.Context, s *Store, api *s3.Client, bucket, prefix string, before time.Time) (int, error) {
	pages := s3.NewListMultipartUploadsPaginator(api, &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: &prefix})
	var errs []error
	aborted := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return aborted, errors.Join(append(errs, s.explain(ctx, "listing uploads below", prefix, err))...)
		}
		for _, upload := range page.Uploads {
			// The prefix again: a store that ignores it would have us abort the
			// uploads of others.
			if !strings.HasPrefix(aws.ToString(upload.Key), prefix) || upload.Initiated == nil || !upload.Initiated.Before(before) {
				continue
			}
			_, err := api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: upload.Key, UploadId: upload.UploadId})
			if err != nil {
				errs = append(errs, s.explain(ctx, "aborting the upload of", aws.ToString(upload.Key), err))
				continue
			}
			aborted++
		}
	}
	return aborted, errors.Join(errs...)
}

// fileCredentials reads a mounted Secret, anew every few seconds, so that a Secret renewed
// while an upload goes on is used for the rest of it.
type fileCredentials struct {
	dir   string
	cache *aws.CredentialsCache
}

func newFileCredentials(dir string) *fileCredentials {
	f := &fileCredentials{dir: dir}
	f.cache = aws.NewCredentialsCache(f)
	return f
}

// Retrieve reads the files until they say the same twice: a Secret that is renewed between
// the first and the last of them gives half of each.
func (f *fileCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	now, err := f.read()
	for range mostFailures {
		before := now
		if now, err = f.read(); err != nil || before.AccessKeyID == now.AccessKeyID && before.SecretAccessKey == now.SecretAccessKey && before.SessionToken == now.SessionToken {
			break
		}
	}
	return now, err
}

func (f *fileCredentials) read() (aws.Credentials, error) {
	id, err := credential(f.dir, snapshot.CredentialS3KeyID)
	if err != nil {
		return aws.Credentials{}, err
	}
	key, err := credential(f.dir, snapshot.CredentialS3Key)
	if err != nil {
		return aws.Credentials{}, err
	}
	token, err := credential(f.dir, snapshot.CredentialS3Token)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return aws.Credentials{}, err
	}
	return aws.Credentials{
		AccessKeyID: id, SecretAccessKey: key, SessionToken: token, Source: "Secret",
		CanExpire: true, Expires: time.Now().Add(credentialsLife),
	}, nil
}

// renewed says that the store does not know the credentials that a request was signed with,
// and that others have been in the Secret since.
func (f *fileCredentials) renewed(err error) aws.Ternary {
	answered, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || !strange(err) || answered.Response == nil || answered.Response.Request == nil {
		return aws.UnknownTernary
	}
	now, err := f.Retrieve(answered.Response.Request.Context())
	if err != nil {
		return aws.UnknownTernary
	}
	used := answered.Response.Request.Header
	if strings.Contains(used.Get("Authorization"), "Credential="+now.AccessKeyID+"/") && used.Get("X-Amz-Security-Token") == now.SessionToken {
		return aws.UnknownTernary
	}
	f.cache.Invalidate()
	return aws.TrueTernary
}

// credential reads one key of a mounted Secret. An empty one counts as missing.
func credential(dir, key string) (string, error) {
	content, err := os.ReadFile(filepath.Join(dir, key))
	value := strings.TrimSpace(string(content))
	if err == nil && value == "" {
		err = fmt.Errorf("it is empty: %w", os.ErrNotExist)
	}
	if err != nil {
		return "", snapshot.Fail(snapshot.ReasonCredentialsMissing, err,
			"the credentials have no usable key %s — the store cannot be asked — put it into the Secret", key)
	}
	return value, nil
}
