// Go's net/http as a client. OVER is "http/1.1", "h2" (over TLS) or "h2c" (with prior knowledge); the rest of
// the environment is that of ../common.mjs.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

const size = 5_000_000

var (
	target = os.Getenv("TARGET")
	over   = os.Getenv("OVER")
	cookie = os.Getenv("COOKIE")
	client = &http.Client{Transport: transport(), CheckRedirect: dontFollow}
)

func main() {
	if cookie != "" {
		step("without a session", stranger)
	}
	step("GET", get)
	step("POST of JSON", post)
	step("uploads, with a length, in chunks and with trailers", uploads)
	step("downloads, with a length, in chunks and with trailers", downloads)
	step("fifty at once", atOnce)
	step("answers without a body", bodiless)
	step("a client that gives up leaves the connection to others", givingUp)
}

func stranger() {
	answer := send("GET", "/seen", nil, http.Header{"Cookie": nil})
	equal(answer.StatusCode, 401)
	equal(answer.Header.Get("Content-Type"), "application/problem+json")
	answer = send("GET", "/seen?x=1", nil, http.Header{"Cookie": nil, "Accept": {"text/html"}})
	equal(answer.StatusCode, 302)
	login := "https://auth.example.com/login?callbackUrl=" + url.QueryEscape(target+"/seen?x=1")
	equal(answer.Header.Get("Location"), login)
}

func get() {
	var seen struct {
		Method, URL string
		Headers     [][2]string
	}
	fromJSON(send("GET", "/seen?a=1&a=%20", nil, http.Header{"Authorization": {"Bearer forged"}}), &seen)
	equal(seen.Method, "GET")
	equal(seen.URL, "/seen?a=1&a=%20")
	if cookie == "" {
		return
	}
	here := must(url.Parse(target))
	headers := map[string][]string{}
	for _, header := range seen.Headers {
		headers[header[0]] = append(headers[header[0]], header[1])
	}
	equal(headers["authorization"], []string{"Bearer " + os.Getenv("BEARER")})
	equal(headers["x-forwarded-for"], []string{"127.0.0.1"})
	equal(headers["x-forwarded-proto"], []string{here.Scheme})
	equal(headers["x-forwarded-host"], []string{here.Host})
}

func post() {
	sent := `{"text":"é€😀","list":[1,2.5,null]}`
	answer := send("POST", "/json", strings.NewReader(sent), http.Header{"Content-Type": {"application/json"}})
	equal(string(body(answer)), `{"got":`+sent+`}`)
}

type uploaded struct {
	Bytes     int
	Sha256    string
	Announced *string
	Trailers  [][2]string
}

func uploads() {
	random := make([]byte, size)
	must(rand.Read(random))
	var got uploaded
	fromJSON(send("POST", "/upload", bytes.NewReader(random), nil), &got)
	equal(got.Bytes, size)
	equal(got.Sha256, hash(random))
	equal(*got.Announced, fmt.Sprint(size))

	// Of a Reader that tells no length Go makes chunks, or DATA frames without a content-length.
	request := newRequest("PUT", "/upload", io.MultiReader(bytes.NewReader(random)), nil)
	request.Trailer = http.Header{"X-Sha256": {hash(random)}}
	got = uploaded{}
	fromJSON(do(request), &got)
	equal(got.Sha256, hash(random))
	equal(got.Announced, (*string)(nil))
	equal(got.Trailers, [][2]string{{"x-sha256", hash(random)}})
}

func downloads() {
	answer := send("GET", fmt.Sprintf("/download?bytes=%d", size), nil, nil)
	equal(answer.ContentLength, int64(size))
	whole := hash(body(answer))
	equal(whole, answer.Header.Get("X-Sha256"))

	answer = send("GET", fmt.Sprintf("/download?bytes=%d&chunked", size), nil, http.Header{"TE": {"trailers"}})
	equal(answer.ContentLength, int64(-1))
	equal(hash(body(answer)), whole)
	equal(answer.Trailer.Get("X-Sha256"), whole)
}

func atOnce() {
	var all sync.WaitGroup
	for number := 0; number < 50; number++ {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			answer := send("GET", fmt.Sprintf("/download?bytes=%d", number*10_001), nil, nil)
			equal(hash(body(answer)), answer.Header.Get("X-Sha256"))
		}(number)
	}
	all.Wait()
}

func bodiless() {
	answer := send("HEAD", fmt.Sprintf("/download?bytes=%d", size), nil, nil)
	equal(answer.ContentLength, int64(size))
	answer = send("GET", "/no-content", nil, nil)
	equal(answer.StatusCode, 204)
	equal(answer.Header.Get("X-Kind"), "none")
	answer = send("GET", "/tagged", nil, http.Header{"If-None-Match": {`"v1"`}})
	equal(answer.StatusCode, 304)
	equal(answer.Header.Get("ETag"), `"v1"`)
	equal(string(body(send("GET", "/tagged", nil, nil))), "version 1")
}

func givingUp() {
	for number := 0; number < 20; number++ {
		request := newRequest("GET", fmt.Sprintf("/download?bytes=%d", size), nil, nil)
		context, giveUp := context.WithCancel(context.Background())
		answer := must(client.Do(request.WithContext(context)))
		must(io.ReadFull(answer.Body, make([]byte, 1_000)))
		giveUp()
		answer.Body.Close()
	}
	equal(string(body(send("GET", "/tagged", nil, nil))), "version 1")
}

func transport() http.RoundTripper {
	// Every name is this machine.
	dial := func(_ context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		return net.Dial(network, "127.0.0.1:"+port)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool()}
	if pem, err := os.ReadFile(os.Getenv("CA")); err == nil {
		trust.RootCAs.AppendCertsFromPEM(pem)
	}
	switch over {
	case "h2c":
		plain := func(context context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return dial(context, network, address)
		}
		return &http2.Transport{AllowHTTP: true, DialTLSContext: plain}
	case "h2":
		return &http.Transport{DialContext: dial, TLSClientConfig: trust, ForceAttemptHTTP2: true}
	default:
		// A map of protocols, even an empty one, keeps Go from offering HTTP/2.
		none := map[string]func(string, *tls.Conn) http.RoundTripper{}
		return &http.Transport{DialContext: dial, TLSClientConfig: trust, TLSNextProto: none}
	}
}

func dontFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func newRequest(method, path string, content io.Reader, headers http.Header) *http.Request {
	request := must(http.NewRequest(method, target+path, content))
	if cookie != "" {
		request.Header.Set("Cookie", cookie)
	}
	for name, values := range headers {
		request.Header[name] = values
	}
	return request
}

func send(method, path string, content io.Reader, headers http.Header) *http.Response {
	return do(newRequest(method, path, content, headers))
}

// Asks, and makes sure that the answer came by the protocol that is to be shown.
func do(request *http.Request) *http.Response {
	answer := must(client.Do(request))
	wanted := map[bool]int{true: 1, false: 2}[over == "http/1.1"]
	equal(answer.ProtoMajor, wanted)
	return answer
}

func body(answer *http.Response) []byte {
	defer answer.Body.Close()
	return must(io.ReadAll(answer.Body))
}

func fromJSON(answer *http.Response, value any) {
	text := body(answer)
	if err := json.Unmarshal(text, value); err != nil {
		panic(fmt.Sprintf("%v: %d %s", err, answer.StatusCode, text))
	}
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func equal[T any](got, wanted T) {
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", wanted); g != w {
		panic(fmt.Sprintf("%s instead of %s", g, w))
	}
}

// Does one step and says so; the first that fails ends the client, with the place on stderr.
func step(name string, act func()) {
	act()
	line := must(json.Marshal(map[string]any{"name": name, "ok": true}))
	fmt.Println(string(line))
}
