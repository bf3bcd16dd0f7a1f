module foregate.example/app

go 1.19
