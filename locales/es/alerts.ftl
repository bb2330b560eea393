### Correos a las personas de un cliente: ha usado una parte de su límite. Se trata de usted.
###
### $name: el del cliente. $used, $limit: ejecuciones. $percent: "80 %".
### $of_period: tal como sigue a un consumo: "de noviembre de 2026".
### $crossed, $ends: instantes tal como siguen a un verbo: "el 24 de noviembre de 2026 a las 13:05". $zone: "Europe/Madrid".

alert =
    .subject = { $name } ha usado el { $percent } de sus ejecuciones { $of_period }
    .what = { $name } ha usado { $used } de sus { $limit } ejecuciones { $of_period }. Alcanzó el { $percent } { $crossed }.
    .passed = Antes pasó también por el { $shares }.
    .next = El periodo termina { $ends } ({ $zone }); entonces la cuenta vuelve a empezar desde cero.
    .figure = { $used } de { $limit } ejecuciones
    .look = El consumo actual, flujo por flujo, se puede ver en el panel.
    .button = Abrir el panel
    .because = Recibe este correo porque su dirección está entre las que { $name } ha elegido para los avisos de consumo.

# El final de una lista en .passed: "50 %, 60 % y 70 %".
shares = { $first } y { $last }

## Etiquetas de la tabla

label_remaining = Disponibles
label_threshold = Umbral
label_reached = Alcanzado
label_period = Periodo
label_ends = Fin del periodo
label_zone = Zona horaria

## Qué ocurre en el límite: antes de alcanzarlo (.ahead) y después (.reached)

refuses =
    .ahead = El límite es estricto: cuando se alcance, se rechazarán las nuevas ejecuciones hasta que termine el periodo.
    .reached = El límite es estricto y se ha alcanzado: las nuevas ejecuciones se rechazan hasta que termine el periodo o se amplíe el límite.

# $grace: "24 horas".
refuses_after =
    .ahead = El límite es estricto, con un margen de { $grace }: cuando se alcance, se seguirán iniciando ejecuciones durante ese tiempo. Después se rechazarán hasta que termine el periodo.
    .reached = El límite es estricto y se ha alcanzado. A partir de la primera ejecución en el límite, se siguen iniciando ejecuciones durante { $grace }. Después se rechazan hasta que termine el periodo o se amplíe el límite.

# Un plan en modo de observación registra lo que un límite estricto rechazaría y no rechaza nada.
watches =
    .ahead = El plan está en modo de observación: cuando se alcance el límite, las ejecuciones continuarán. Queda registrado lo que un límite estricto rechazaría.
    .reached = El límite se ha alcanzado y el plan está en modo de observación: las ejecuciones continúan. Queda registrado lo que un límite estricto rechazaría.

overage =
    .ahead = El límite es flexible: al alcanzarlo, las ejecuciones continúan, y las que lo superen cuentan como excedente.
    .reached = El límite es flexible y se ha alcanzado: las ejecuciones continúan, y las que lo superen cuentan como excedente.

# $most: ejecuciones por encima del límite.
overage_of =
    .ahead = El límite es flexible: al alcanzarlo, las ejecuciones continúan, y hasta { $most } más cuentan como excedente. Después se rechazarán hasta que termine el periodo.
    .reached = El límite es flexible y se ha alcanzado: las ejecuciones continúan, y hasta { $most } más cuentan como excedente. Después se rechazan hasta que termine el periodo o se amplíe el límite.
    .used = Se han agotado el límite y las { $most } ejecuciones de excedente: las nuevas ejecuciones se rechazan hasta que termine el periodo o se amplíe el límite.
