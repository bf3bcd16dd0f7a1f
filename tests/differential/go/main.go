// Go's net/http with its own ServeMux: `server port files`.
package main

import (
	"log"
	"net/http"
	"os"
)

func served(route string) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) {
		response.Write([]byte("served:" + route + ";"))
	}
}

func main() {
	mux := http.NewServeMux()
	mux.Handle("/{$}", served("home"))
	mux.Handle("/about", served("about"))
	mux.Handle("/public/", served("public"))
	mux.Handle("/admin", served("admin"))
	mux.Handle("/admin/", served("admin"))
	mux.Handle("/dashboard", served("dashboard"))
	mux.Handle("/dashboard/", served("dashboard"))
	mux.Handle("/api/private", served("private"))
	mux.Handle("/shop/{id}/edit", served("edit"))
	mux.HandleFunc("/shop/{id}", func(response http.ResponseWriter, request *http.Request) {
		route := "shop"
		if request.PathValue("id") == "secret" {
			route = "vault"
		}
		served(route)(response, request)
	})
	mux.Handle("/café", served("cafe"))
	mux.Handle("/files/", http.StripPrefix("/files/", http.FileServer(http.Dir(os.Args[2]))))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}
