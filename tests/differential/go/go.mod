module foregate.example/differential

go 1.22
